//! The few classes and functions that a pickle of `torch.save` names.

use super::machine::{Machine, Object, Result, Storage, TensorRef, Value};

/// More dimensions than any tensor of a model.
const MOST_DIMENSIONS: usize = 16;

impl<'a> Machine<'a> {
    /// What the few known functions return; anything else is opaque.
    pub(super) fn call(&mut self, callable: Value, arguments: Value) -> Result<Value> {
        let Some(Object::Global(names)) = self.object(callable) else {
            return Ok(Value::Opaque);
        };
        let [module, name] = **names;
        let object = match (module, name) {
            ("collections", "OrderedDict") => self.ordered_dict(arguments),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                Some(Object::Tensor(Box::new(self.tensor(arguments)?)))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let data = self.items(arguments).first().copied();
                return data.ok_or_else(|| "a parameter without data".to_owned());
            }
            _ => None,
        };
        Ok(match object {
            Some(object) => self.keep(object),
            None => Value::Opaque,
        })
    }

    /// `OrderedDict()` or `OrderedDict([(key, value), …])`. The list is moved, not
    /// copied: it serves no other purpose.
    fn ordered_dict(&mut self, arguments: Value) -> Option<Object<'a>> {
        let Some(&list) = self.items(arguments).first() else {
            return Some(Object::Dict(Vec::new()));
        };
        let Value::At(i) = list else { return None };
        let pairs = match &mut self.objects[i] {
            Object::List(items) => std::mem::take(items),
            _ => return None,
        };
        let pairs = pairs.into_iter().map(|pair| match self.items(pair) {
            &[key, value] => Some((key, value)),
            _ => None,
        });
        Some(Object::Dict(pairs.collect::<Option<_>>()?))
    }

    /// (storage, offset, size, stride, …)
    fn tensor(&self, arguments: Value) -> Result<TensorRef<'a>> {
        let &[storage, Value::Int(offset), shape, stride, ..] = self.items(arguments) else {
            return Err("a tensor is not made of storage, offset, size and stride".to_owned());
        };
        let Some(Object::Storage(storage)) = self.object(storage) else {
            return Err("a tensor without storage".to_owned());
        };
        let numbers = |value| {
            let items = self.items(value);
            if items.len() > MOST_DIMENSIONS {
                return Err("a tensor has too many dimensions");
            }
            items
                .iter()
                .map(|&item| match item {
                    Value::Int(n) => usize::try_from(n).ok(),
                    _ => None,
                })
                .collect::<Option<Vec<usize>>>()
                .ok_or("a tensor's size or stride is not whole numbers from 0")
        };
        let (shape, stride) = (numbers(shape)?, numbers(stride)?);
        if shape.len() != stride.len() {
            return Err("a tensor's size and stride do not fit each other".to_owned());
        }
        Ok(TensorRef {
            storage: **storage,
            offset: usize::try_from(offset).map_err(|_| "a tensor's offset is negative")?,
            shape,
            stride,
        })
    }

    /// ("storage", class, key, device, elements)
    pub(super) fn storage(&self, id: Value) -> Result<Object<'a>> {
        let &[tag, class, key, ..] = self.items(id) else {
            return Err("a persistent id is no storage".to_owned());
        };
        let (Some("storage"), Some(Object::Global(names)), Some(key)) =
            (self.name(tag), self.object(class), self.name(key))
        else {
            return Err("a persistent id is no storage".to_owned());
        };
        let class = names[1];
        Ok(Object::Storage(Box::new(Storage { class, key })))
    }
}
