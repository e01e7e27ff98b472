//! A checkpoint's tensors under this project's names.

use std::collections::BTreeSet;

use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::weights::{self, Faults, Source};

use crate::published::{Form, Part, Spelling};

/// A model's tensors below canonical names, made of the file's when they are
/// asked for. Tensors that are not the model's keep their names.
pub(crate) struct Renamed {
    pub inner: Box<dyn Source>,
    pub spelling: Box<dyn Spelling>,
    /// Names and shapes of the model's tensors.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// The kernel (C, t, p, p) that cuts clips into the encoder's tubes.
    pub kernel: [usize; 4],
    /// Names in the file that are recognised and left alone.
    pub ignored: BTreeSet<String>,
}

impl Renamed {
    /// Every fault under the names of the file.
    pub fn faults(&self) -> Faults {
        let mut faults = Faults {
            origin: self.inner.origin(),
            ..Faults::default()
        };
        for (name, want) in &self.tensors {
            let parts = self.spelling.parts(name);
            let shares: usize = parts.iter().map(|part| part.share).sum();
            for part in &parts {
                let mut want = want.clone();
                want[0] = want[0] / shares * part.share;
                match self.find(part) {
                    None => faults.missing.push(part.names.join(" or ")),
                    Some((name, found)) => {
                        if self.model_shape(part.form, &found) != want {
                            let want = self.file_shape(part.form, &want, &found);
                            faults.misshapen.push((name.to_owned(), want, found));
                        }
                    }
                }
            }
        }
        faults.unexpected = self.rest();
        faults
    }

    /// Names in the file that are neither the model's nor ignored.
    fn rest(&self) -> Vec<String> {
        let mut used = BTreeSet::new();
        for (name, _) in &self.tensors {
            for part in self.spelling.parts(name) {
                if let Some((name, _)) = self.find(&part) {
                    used.insert(name.to_owned());
                }
            }
        }
        self.inner
            .names()
            .into_iter()
            .filter(|name| !used.contains(name) && !self.ignored.contains(name))
            .collect()
    }

    /// The name and shape under which the file holds a part.
    fn find<'a>(&self, part: &'a Part) -> Option<(&'a str, Vec<usize>)> {
        part.names
            .iter()
            .find_map(|name| Some((name.as_str(), self.inner.shape(name)?)))
    }

    /// The shape that the model sees in place of a part of shape `found`; `found`
    /// itself where that is no form of it, so that it shows as misshapen.
    fn model_shape(&self, form: Form, found: &[usize]) -> Vec<usize> {
        match (form, found) {
            (Form::Kernel, [d, kernel @ ..]) if kernel == self.kernel => {
                vec![*d, kernel.iter().product()]
            }
            (Form::Table, [1, n, d]) => vec![*n, *d],
            (Form::Pairs, [d, c, 2]) => vec![*d, 2 * c],
            _ => found.to_vec(),
        }
    }

    /// The shape that the file should have had, given the rank it has.
    fn file_shape(&self, form: Form, want: &[usize], found: &[usize]) -> Vec<usize> {
        match (form, found.len()) {
            (Form::Kernel, 5) => [&want[..1], &self.kernel].concat(),
            (Form::Table, 3) => [&[1], want].concat(),
            (Form::Pairs, 3) => vec![want[0], want[1] / 2, 2],
            _ => want.to_vec(),
        }
    }
}

impl Source for Renamed {
    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tensors
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| self.shape(name).is_some())
            .chain(self.rest())
            .collect();
        names.sort_unstable();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let mut whole: Option<Vec<usize>> = None;
        for part in self.spelling.parts(name) {
            let shape = self.model_shape(part.form, &self.find(&part)?.1);
            match &mut whole {
                None => whole = Some(shape),
                // Stacked rows; other parts of another width show in `faults`.
                Some(whole) if whole.len() == shape.len() && whole[1..] == shape[1..] => {
                    if let (Some(rows), Some(more)) = (whole.first_mut(), shape.first()) {
                        *rows = rows.saturating_add(*more);
                    }
                }
                Some(_) => return Some(shape),
            }
        }
        whole
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, weights::Error> {
        let mut tensors = Vec::new();
        for part in self.spelling.parts(name) {
            let Some((found, shape)) = self.find(&part) else {
                return Err(weights::Error::Tensor {
                    origin: self.origin(),
                    name: part.names.join(" or "),
                    reason: "not in the file".to_owned(),
                });
            };
            let tensor = self.inner.load(found, device)?;
            tensors.push(tensor.reshape(self.model_shape(part.form, &shape))?);
        }
        match tensors.as_slice() {
            [one] => Ok(one.clone()),
            several => Ok(Tensor::cat(several, 0)?),
        }
    }
}
