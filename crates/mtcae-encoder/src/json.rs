//! Reading single fields of other people's JSON, with errors that name them.

use std::path::Path;

use mtcae_nn::weights::shown;
use serde_json::{Map, Value};

use crate::Error;

/// A JSON object and where it comes from.
pub(crate) struct Fields {
    origin: String,
    map: Map<String, Value>,
}

impl Fields {
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let map = serde_json::from_str(text).map_err(|source| Error::Json {
            origin: origin.to_owned(),
            source,
        })?;
        Ok(Self {
            origin: origin.to_owned(),
            map,
        })
    }

    /// The object in a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&crate::read_text(path)?, &path.display().to_string())
    }

    pub fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn fault(&self, field: &str, reason: impl Into<String>) -> Error {
        Error::Field {
            origin: self.origin.clone(),
            field: field.to_owned(),
            // It may quote the file.
            reason: shown(&reason.into()),
        }
    }

    /// The value of a field; `null` counts as absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        self.get(field)?.as_str()
    }

    fn required<T>(
        &self,
        field: &str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, Error> {
        let value = self
            .get(field)
            .ok_or_else(|| self.fault(field, format!("missing; should be {wanted}")))?;
        read(value).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(60).collect();
            self.fault(field, format!("should be {wanted}, not {shown}"))
        })
    }

    /// A whole number, or a list of equal ones (a square).
    pub fn size(&self, field: &str) -> Result<usize, Error> {
        self.required(field, "one whole number above 0", |value| {
            let number = |v: &Value| {
                v.as_u64()
                    .filter(|&n| n > 0)
                    .and_then(|n| n.try_into().ok())
            };
            match value {
                Value::Array(list) => {
                    let first = list.first()?;
                    list.iter().all(|v| v == first).then(|| number(first))?
                }
                value => number(value),
            }
        })
    }

    pub fn number(&self, field: &str) -> Result<f64, Error> {
        self.required(field, "a number", Value::as_f64)
    }

    pub fn flag(&self, field: &str) -> Result<bool, Error> {
        self.required(field, "true or false", Value::as_bool)
    }

    pub fn flag_or(&self, field: &str, default: bool) -> Result<bool, Error> {
        match self.get(field) {
            Some(_) => self.flag(field),
            None => Ok(default),
        }
    }

    /// Three numbers, one a colour channel.
    pub fn colours(&self, field: &str) -> Result<[f32; 3], Error> {
        self.required(field, "a list of three numbers", |value| {
            let list: Vec<f32> = value
                .as_array()?
                .iter()
                .map(|v| Some(v.as_f64()? as f32))
                .collect::<Option<_>>()?;
            list.try_into().ok()
        })
    }
}
