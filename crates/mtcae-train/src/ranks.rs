//! A run that several processes share: each computes some of a step's batches, all take the same
//! step.
//!
//! What depends on how many there are is kept out of the numbers: gradients are added over the
//! tree of the step's batches ([`mtcae_ranks::Reduction`]), everything else that is measured of
//! a batch goes to all and is added up by each in the order of the batches. So weights, losses
//! and states are those of one process, to the bit.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use mtcae_core::one_line;
use mtcae_nn::Isa;
use mtcae_nn::ops::Followed;
use mtcae_nn::optim::Gradients;
use mtcae_ranks::{
    Block, Deal, Group, Memory, Reduction, Solo, Traffic, Values, agree, broadcast, gather,
    together,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, TrainConfig};

/// The processes of a run, as one of them sees them.
#[derive(Clone, Copy)]
pub enum Ranks<'a> {
    /// Ranks that exchange bytes; vectors of a GPU go by way of memory.
    Any(&'a dyn Group),
    /// Ranks that have a GPU each.
    #[cfg(feature = "nccl")]
    Gpus(&'a mtcae_ranks::Nccl),
}

impl Ranks<'static> {
    /// One process alone.
    pub const ALONE: Self = Ranks::Any(&Solo);
}

impl<'a> Ranks<'a> {
    /// Who they are.
    pub fn group(self) -> &'a dyn Group {
        match self {
            Self::Any(group) => group,
            #[cfg(feature = "nccl")]
            Self::Gpus(gpus) => gpus,
        }
    }

    /// Whether this one writes the run's files.
    pub fn is_first(self) -> bool {
        self.group().rank() == 0
    }

    /// Makes sure that a step's batches can be dealt to them evenly.
    ///
    /// # Errors
    /// Names the setting, and what would be right.
    pub fn check(self, config: &TrainConfig) -> Result<(), Error> {
        let ranks = self.group().size();
        if config.accumulate.is_multiple_of(ranks) {
            return Ok(());
        }
        let clips = config.batch * config.accumulate;
        let batches = (config.accumulate..=clips)
            .find(|n| n.is_multiple_of(ranks) && clips.is_multiple_of(*n));
        let instead = match batches {
            Some(n) => format!(
                "`batch` {} `accumulate` {n} has the same clips a step",
                clips / n
            ),
            None => format!("the {clips} clips of a step are no multiple of {ranks}"),
        };
        Err(Error::Config {
            field: "accumulate",
            reason: format!(
                "{} cannot be dealt to {ranks} ranks: {instead}",
                config.accumulate
            ),
        })
    }

    /// Makes sure that all are about to do the same.
    ///
    /// # Errors
    /// Names the rank, and what of it differs from that of rank 0.
    pub(crate) fn agree(
        self,
        identity: &BTreeMap<String, String>,
        device: &Device,
        weights: String,
        saved: String,
    ) -> Result<(), Error> {
        if self.group().size() == 1 {
            return Ok(());
        }
        let set = Isa::held().map_or_else(|e| e.to_string(), |isa| isa.name().to_owned());
        let own = |name: &str, value: String| (name.to_owned(), value);
        let mut fields = vec![
            own("version of mtcae", env!("CARGO_PKG_VERSION").to_owned()),
            own("instruction set (MTCAE_ISA)", set),
            own(
                "device",
                if device.is_cpu() { "cpu" } else { "cuda" }.to_owned(),
            ),
        ];
        for (name, value) in identity {
            // Configs are JSON: field by field.
            match serde_json::from_str(value) {
                Ok(Value::Object(object)) => {
                    let each = object.into_iter();
                    fields.extend(each.map(|(k, v)| (format!("{name}.{k}"), v.to_string())));
                }
                _ => fields.push(own(name, value.clone())),
            }
        }
        fields.push(own(
            "saved state (is the run's folder on a disk that all share?)",
            saved,
        ));
        fields.push(own("weights to begin with", weights));
        Ok(agree(self.group(), &fields)?)
    }

    /// Whether all have come so far; else all learn of the first that has not.
    pub(crate) fn together<T>(self, outcome: Result<T, Error>) -> Result<T, Error> {
        together(self.group(), outcome, |e| one_line(e))
    }

    /// What rank 0 does alone and the others wait for.
    pub(crate) fn by_first<T>(
        self,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let outcome = match self.is_first() {
            true => work().map(Some),
            false => Ok(None),
        };
        self.together(outcome)
    }

    /// What rank 0 finds or makes, for all.
    pub(crate) fn found_by_first<T: Serialize + DeserializeOwned>(
        self,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        // A list, since JSON does not tell nothing from none.
        let own = match self.is_first() {
            true => work().map(|found| vec![found]),
            false => Ok(Vec::new()),
        };
        let first = self.gather(own)?.into_iter().flatten().next();
        first.ok_or_else(|| strange(0, "nothing").into())
    }

    /// What all have, in their order, as one; each part made by one of them.
    ///
    /// # Errors
    /// What this one's part has failed at, or the first other's.
    pub(crate) fn gather<T: Serialize + DeserializeOwned>(
        self,
        own: Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        if self.group().size() == 1 {
            return Ok(vec![own?]);
        }
        let mut text = None;
        let own = own.and_then(|own| {
            let json = serde_json::to_vec(&own);
            json.map_err(|e| Error::Config {
                field: "ranks",
                reason: format!("what is to be told cannot be written down: {e}"),
            })
        });
        let parcel = match &own {
            Ok(json) => [&[0], &json[..]].concat(),
            Err(e) => {
                let text = text.insert(one_line(e));
                [&[1], text.as_bytes()].concat()
            }
        };
        let told = gather(self.group(), parcel)?;
        own?;
        told.iter()
            .enumerate()
            .map(|(rank, told)| read(rank, told))
            .collect()
    }

    /// Makes sure that all have the same of one thing.
    pub(crate) fn agree_on(self, what: &str, own: &str) -> Result<(), Error> {
        Ok(agree(self.group(), &[(what.to_owned(), own.to_owned())])?)
    }

    /// The numbers that rank 0 has.
    pub(crate) fn numbers_from_first(self, own: &[u64]) -> Result<Vec<u64>, Error> {
        let own = own.iter().flat_map(|n| n.to_le_bytes()).collect();
        let told = self.told_by_first(own)?;
        let numbers = told.as_chunks().0.iter();
        Ok(numbers.map(|n| u64::from_le_bytes(*n)).collect())
    }

    /// Gives rank 0 what each of the first `count` ranks has made: `length` bytes. What one has
    /// failed at, all learn.
    pub(crate) fn to_first(
        self,
        own: Result<Vec<u8>, Error>,
        count: usize,
        length: usize,
    ) -> Result<Vec<Block>, Error> {
        let own = self.together(own)?;
        let (group, first) = (self.group(), self.is_first());
        let mut to = vec![Block::default(); group.size()];
        to[0] = Block::new(own);
        let of = |r: usize| if first && r < count { length } else { 0 };
        let lengths = (0..group.size()).map(of).collect();
        Ok(group.exchange(to, lengths)?.wait()?)
    }

    /// What rank 0 has.
    pub(crate) fn told_by_first(self, own: Vec<u8>) -> Result<Block, Error> {
        Ok(broadcast(self.group(), Some(own))?)
    }

    /// The sum of a step's gradients over all its batches, of which each rank has added up its
    /// own as far as the tree lets it.
    pub(crate) fn sum(
        self,
        deal: Deal,
        nodes: Vec<Gradients>,
        trained: &[(String, Var)],
        device: &Device,
    ) -> Result<(Gradients, Traffic), Error> {
        let length = trained.iter().map(|(_, var)| var.elem_count()).sum();
        let reduction = Reduction::new(length);
        let flat = nodes.iter().map(|node| node.flat());
        let flat = flat.collect::<Result<Vec<Tensor>, _>>()?;
        let (sum, traffic) = match self {
            Self::Any(group) if device.is_cpu() => {
                let nodes = flat.iter().map(|node| Ok(Values::new(node.to_vec1()?)));
                let nodes = nodes.collect::<Result<_, candle_core::Error>>()?;
                let (sum, traffic) = reduction.sum(&Memory(group), deal, nodes)?;
                (Tensor::from_vec(sum.into_vec(), length, device)?, traffic)
            }
            Self::Any(group) => {
                let wire = mtcae_ranks::ByMemory::new(group, device);
                reduction.sum(&mtcae_ranks::Tensors(wire), deal, flat)?
            }
            #[cfg(feature = "nccl")]
            Self::Gpus(gpus) => reduction.sum(&mtcae_ranks::Tensors(gpus), deal, flat)?,
        };
        Ok((Gradients::of_flat(trained, &sum)?, traffic))
    }

    /// Moves running statistics by what the batches of all ranks gave, in their order: `own` are
    /// those of this rank's batches, a list for each.
    pub(crate) fn follow(
        self,
        own: &[Vec<Followed>],
        followed: &[(String, Var)],
    ) -> Result<(), Error> {
        if followed.is_empty() {
            return Ok(());
        }
        if self.group().size() == 1 {
            return Ok(own.iter().flatten().try_for_each(Followed::apply)?);
        }
        let mut bytes = Vec::new();
        for of_batch in own {
            for one in of_batch {
                let one = one.to_bytes();
                bytes.extend((one.len() as u64).to_le_bytes());
                bytes.extend(one);
            }
        }
        let told = gather(self.group(), bytes)?;
        // Rank 0 has the first batch of every step, and with it what these bytes belong to.
        let mut moved = Vec::new();
        if let Some(handles) = own.first().filter(|_| self.is_first()) {
            for (rank, told) in told.iter().enumerate() {
                let (mut rest, mut at) = (&told[..], 0);
                while let Some((length, more)) = rest.split_first_chunk::<8>() {
                    let length = usize::try_from(u64::from_le_bytes(*length)).ok();
                    let parts = length.and_then(|n| more.split_at_checked(n));
                    let (Some((one, more)), Some(handle)) = (parts, handles.get(at)) else {
                        return Err(strange(rank, "statistics that are not understood").into());
                    };
                    handle.of_bytes(one)?.apply()?;
                    (rest, at) = (more, (at + 1) % handles.len());
                }
            }
            for (_, var) in followed {
                let values: Vec<f32> = var.flatten_all()?.to_vec1()?;
                moved.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
        let moved = self.told_by_first(moved)?;
        let mut values = moved.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v));
        for (_, var) in followed.iter().filter(|_| !self.is_first()) {
            let own: Vec<f32> = values.by_ref().take(var.elem_count()).collect();
            if own.len() != var.elem_count() {
                return Err(strange(0, "too few statistics").into());
            }
            var.set(&Tensor::from_vec(own, var.shape(), var.device())?)?;
        }
        Ok(())
    }
}

/// What a rank has told, or why it could not.
fn read<T: DeserializeOwned>(rank: usize, told: &[u8]) -> Result<T, Error> {
    match told.split_first() {
        Some((0, json)) => Ok(serde_json::from_slice(json)
            .map_err(|e| strange(rank, &format!("what is not understood ({e})")))?),
        Some((1, reason)) => Err(mtcae_ranks::Error::Stopped {
            rank,
            reason: String::from_utf8_lossy(reason).into_owned(),
        }
        .into()),
        _ => Err(strange(rank, "what is not understood").into()),
    }
}

fn strange(rank: usize, what: &str) -> mtcae_ranks::Error {
    mtcae_ranks::Error::Message {
        rank,
        what: what.to_owned(),
    }
}
