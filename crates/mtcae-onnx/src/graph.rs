//! A graph under construction: values, the nodes that make them, and the numbers that it
//! holds. Nothing here knows a layer.

use std::collections::BTreeMap;

use crate::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

/// What flows between nodes. Its name may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value(usize);

/// Numbers that the graph holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Initializer {
    pub name: String,
    pub data: Data,
}

/// Where numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// The checkpoint's tensor of the same name.
    Tensor,
    /// That tensor, a matrix (out, in), as (in, out): what MatMul takes.
    Transposed,
    /// Numbers that follow from the config.
    Floats { shape: Vec<usize>, values: Vec<f32> },
    /// Shapes and sizes.
    Ints(Vec<i64>),
}

/// An output, or an intermediate that may become one: its name and its shape without the
/// batch.
#[derive(Clone, Debug, PartialEq)]
struct Port {
    value: Value,
    shape: Vec<usize>,
}

struct Node {
    kind: &'static str,
    name: String,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    attributes: Vec<AttributeProto>,
}

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Graph {
    /// Of each value.
    names: Vec<String>,
    nodes: Vec<Node>,
    /// How often each name of a node was asked for.
    counts: BTreeMap<String, usize>,
    held: BTreeMap<String, Value>,
    initializers: Vec<Initializer>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Whether named intermediates are outputs too.
    intermediates: bool,
}

impl Graph {
    pub fn new(intermediates: bool) -> Self {
        Self {
            intermediates,
            ..Self::default()
        }
    }

    fn value(&mut self, name: String) -> Value {
        self.names.push(name);
        Value(self.names.len() - 1)
    }

    /// An input of the graph (batch, …).
    pub fn input(&mut self, name: &str, shape: Vec<usize>) -> Value {
        let value = self.value(name.to_owned());
        self.inputs.push(Port { value, shape });
        value
    }

    /// Makes a value (batch, …) an output of the graph, and gives it that name.
    pub fn output(&mut self, name: &str, value: Value, shape: Vec<usize>) {
        name.clone_into(&mut self.names[value.0]);
        self.outputs.push(Port { value, shape });
    }

    /// As [`Self::output`], where intermediates are asked for.
    pub fn intermediate(&mut self, name: &str, value: Value, shape: Vec<usize>) {
        if self.intermediates {
            self.output(name, value, shape);
        }
    }

    /// A node with one output. `at` begins its name: the tensors or the part that it is of.
    pub fn node(
        &mut self,
        at: &str,
        kind: &'static str,
        inputs: &[Value],
        attributes: Vec<AttributeProto>,
    ) -> Value {
        let [output] = self.nodes(at, kind, inputs, attributes);
        output
    }

    /// As [`Self::node`], with N outputs.
    pub fn nodes<const N: usize>(
        &mut self,
        at: &str,
        kind: &'static str,
        inputs: &[Value],
        attributes: Vec<AttributeProto>,
    ) -> [Value; N] {
        let mut name = format!("{at}/{kind}");
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name += &format!("_{count}");
        }
        let outputs = std::array::from_fn(|i| match N {
            1 => self.value(name.clone()),
            _ => self.value(format!("{name}:{i}")),
        });
        self.nodes.push(Node {
            kind,
            name,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            attributes,
        });
        outputs
    }

    /// A tensor of the checkpoint as it is.
    pub fn tensor(&mut self, name: &str) -> Value {
        self.hold(name.to_owned(), Data::Tensor)
    }

    /// A matrix of the checkpoint, transposed.
    pub fn transposed(&mut self, name: &str) -> Value {
        self.hold(name.to_owned(), Data::Transposed)
    }

    /// Numbers that follow from the config.
    pub fn floats(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> Value {
        self.hold(name.to_owned(), Data::Floats { shape, values })
    }

    /// One number, to be broadcast.
    pub fn scalar(&mut self, name: &str, value: f32) -> Value {
        self.floats(name, Vec::new(), vec![value])
    }

    /// Shapes and sizes. Those that are alike are held once.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        let shown: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("ints({})", shown.join(","));
        self.hold(name, Data::Ints(values.to_vec()))
    }

    fn hold(&mut self, name: String, data: Data) -> Value {
        if let Some(value) = self.held.get(&name) {
            return *value;
        }
        let value = self.value(name.clone());
        self.held.insert(name.clone(), value);
        self.initializers.push(Initializer { name, data });
        value
    }

    /// The graph's message, but for the numbers that it holds.
    pub fn finish(self, name: &str) -> (GraphProto, Vec<Initializer>) {
        let names = &self.names;
        let all = |values: &[Value]| values.iter().map(|v| names[v.0].clone()).collect();
        let ports = |ports: &[Port]| {
            let ports = ports.iter();
            ports
                .map(|p| ValueInfoProto::batch_of(&names[p.value.0], &p.shape))
                .collect()
        };
        let nodes = self.nodes.iter().map(|node| NodeProto {
            input: all(&node.inputs),
            output: all(&node.outputs),
            name: Some(node.name.clone()),
            op_type: Some(node.kind.to_owned()),
            attribute: node.attributes.clone(),
        });
        let graph = GraphProto {
            node: nodes.collect(),
            name: Some(name.to_owned()),
            initializer: Vec::new(),
            input: ports(&self.inputs),
            output: ports(&self.outputs),
        };
        (graph, self.initializers)
    }
}
