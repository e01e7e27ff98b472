//! Sums of vectors over all ranks, in the order of the tree.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::Error;
use crate::group::{Block, Group, Pending};
use crate::tree::{Tree, completed};

/// Values of a bucket: 25 MB of `f32`, enough for a network's full bandwidth and few enough to
/// add one bucket up while the next is under way.
const BUCKET: usize = 25_000_000 / size_of::<f32>();

/// How a step's leaves are dealt to ranks: neighbours to the same rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    leaves: usize,
    ranks: usize,
}

impl Deal {
    /// So many leaves among so many ranks; where they do not go evenly, the last ranks have
    /// fewer.
    pub fn new(leaves: usize, ranks: usize) -> Self {
        Self { leaves, ranks }
    }

    /// The leaves of a rank.
    pub fn leaves(self, rank: usize) -> Range<usize> {
        let all = self.leaves;
        let share = all.div_ceil(self.ranks.max(1));
        (rank * share).min(all)..((rank + 1) * share).min(all)
    }

    /// What a rank adds up by itself: the nodes of the tree that its leaves complete.
    pub fn nodes(self, rank: usize) -> Vec<Range<usize>> {
        completed(self.leaves, self.leaves(rank))
    }
}

/// What a sum has cost a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that it has sent to others.
    pub bytes: u64,
}

/// Vectors of `f32` as they are sent and added: in memory, or on a GPU.
pub trait Carrier {
    /// Some values.
    type Vector: Clone;
    /// Vectors under way.
    type Pending;
    /// What can go wrong.
    type Error: From<Error>;

    /// The number of this rank.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// How many values it has.
    fn length(&self, vector: &Self::Vector) -> usize;

    /// Some of its values.
    ///
    /// # Errors
    /// When there is no room.
    fn part(&self, vector: &Self::Vector, range: Range<usize>)
    -> Result<Self::Vector, Self::Error>;

    /// Vectors one after the other.
    ///
    /// # Errors
    /// When there is no room.
    fn join(&self, parts: Vec<Self::Vector>) -> Result<Self::Vector, Self::Error>;

    /// The sum of two of one length: each value rounded once.
    ///
    /// # Errors
    /// When there is no room.
    fn add(&self, a: Self::Vector, b: Self::Vector) -> Result<Self::Vector, Self::Error>;

    /// As [`Group::exchange`], of vectors: lengths are of values.
    ///
    /// # Errors
    /// As there.
    fn begin(
        &self,
        to: Vec<Self::Vector>,
        lengths: Vec<usize>,
    ) -> Result<Self::Pending, Self::Error>;

    /// As [`Pending::wait`].
    ///
    /// # Errors
    /// As there.
    fn end(&self, pending: Self::Pending) -> Result<Vec<Self::Vector>, Self::Error>;
}

/// Sums over all ranks of vectors of one length.
///
/// Each rank has added up its own leaves as far as they are whole nodes of the tree. Of every
/// bucket each rank gets one slice of all those nodes, adds it up in the order of the tree, and
/// gives the sum to all. So a value crosses the network twice, as in any all-reduce that is
/// bound by bandwidth, and the order of the additions is that of one rank alone.
#[derive(Clone, Copy, Debug)]
pub struct Reduction {
    length: usize,
    bucket: usize,
}

impl Reduction {
    /// Of vectors of so many values.
    pub fn new(length: usize) -> Self {
        Self::in_buckets(length, BUCKET)
    }

    /// In buckets of so many values, which all ranks must have alike.
    pub fn in_buckets(length: usize, bucket: usize) -> Self {
        let bucket = bucket.max(1);
        Self { length, bucket }
    }

    /// Values of this rank's slice, and so on, of the bucket that begins at `from`.
    fn slice(self, from: usize, rank: usize, ranks: usize) -> Range<usize> {
        let length = self.bucket.min(self.length - from);
        from + length * rank / ranks..from + length * (rank + 1) / ranks
    }

    /// The sum of all leaves, the same on all ranks. `nodes` are those of [`Deal::nodes`] for
    /// this rank, in their order.
    ///
    /// # Errors
    /// When there are not as many nodes as the deal has, or of another length; when a rank has
    /// failed.
    pub fn sum<C: Carrier>(
        self,
        carrier: &C,
        deal: Deal,
        nodes: Vec<C::Vector>,
    ) -> Result<(C::Vector, Traffic), C::Error> {
        let (rank, ranks) = (carrier.rank(), carrier.size());
        let of_ranks: Vec<Vec<Range<usize>>> = (0..ranks).map(|r| deal.nodes(r)).collect();
        let own = &of_ranks[rank];
        let fits = nodes.iter().all(|v| carrier.length(v) == self.length);
        if nodes.len() != own.len() || !fits || deal.ranks != ranks {
            let reason = format!(
                "{} vectors given for {} nodes of {} values among {ranks} ranks",
                nodes.len(),
                own.len(),
                self.length
            );
            return Err(Error::Deal(reason).into());
        }
        if ranks == 1 {
            let total = self.add_up(carrier, deal, &of_ranks, vec![nodes])?;
            return Ok((total, Traffic::default()));
        }
        let mut traffic = Traffic::default();
        let mut sends = |from: usize, to: usize, values: usize| {
            if from != to {
                traffic.bytes += (values * size_of::<f32>()) as u64;
            }
        };
        let mut scattered = VecDeque::new();
        let mut gathered = Vec::new();
        let mut from = 0;
        while from < self.length || !scattered.is_empty() {
            if from < self.length {
                let mut to = Vec::with_capacity(ranks);
                for r in 0..ranks {
                    let slice = self.slice(from, r, ranks);
                    sends(rank, r, slice.len() * nodes.len());
                    let parts = nodes.iter().map(|v| carrier.part(v, slice.clone()));
                    to.push(carrier.join(parts.collect::<Result<_, _>>()?)?);
                }
                let slice = self.slice(from, rank, ranks).len();
                let lengths = of_ranks.iter().map(|nodes| nodes.len() * slice);
                scattered.push_back((from, carrier.begin(to, lengths.collect())?));
                from += self.bucket;
                if scattered.len() < 2 && from < self.length {
                    continue;
                }
            }
            let Some((at, pending)) = scattered.pop_front() else {
                continue;
            };
            let slice = self.slice(at, rank, ranks).len();
            let mut of_leaves = Vec::with_capacity(ranks);
            for (block, nodes) in carrier.end(pending)?.iter().zip(&of_ranks) {
                let parts =
                    (0..nodes.len()).map(|k| carrier.part(block, k * slice..(k + 1) * slice));
                of_leaves.push(parts.collect::<Result<Vec<_>, _>>()?);
            }
            let total = self.add_up(carrier, deal, &of_ranks, of_leaves)?;
            let lengths = (0..ranks).map(|r| self.slice(at, r, ranks).len());
            (0..ranks).for_each(|r| sends(rank, r, slice));
            gathered.push(carrier.begin(vec![total; ranks], lengths.collect())?);
        }
        let mut whole = Vec::with_capacity(gathered.len() * ranks);
        for pending in gathered {
            whole.extend(carrier.end(pending)?);
        }
        Ok((carrier.join(whole)?, traffic))
    }

    /// Nodes of all ranks, added in the order of the tree.
    fn add_up<C: Carrier>(
        self,
        carrier: &C,
        deal: Deal,
        of_ranks: &[Vec<Range<usize>>],
        vectors: Vec<Vec<C::Vector>>,
    ) -> Result<C::Vector, C::Error> {
        let mut tree = Tree::new(deal.leaves);
        let nodes = of_ranks.iter().flatten().cloned();
        for (node, vector) in nodes.zip(vectors.into_iter().flatten()) {
            tree.add(node, vector, |sum, right| {
                *sum = carrier.add(sum.clone(), right)?;
                Ok::<(), C::Error>(())
            })?;
        }
        let none = || Error::Deal("there are no leaves to add".to_owned()).into();
        tree.total().ok_or_else(none)
    }
}

/// Vectors in memory, over a group.
#[derive(Clone, Copy)]
pub struct Memory<'a>(pub &'a dyn Group);

/// Values in memory: as they were given, or as they came.
#[derive(Clone)]
pub enum Values {
    /// Some of those that were given.
    Given(Arc<Vec<f32>>, Range<usize>),
    /// Some of those that came, little endian.
    Came(Block, Range<usize>),
}

impl Values {
    /// These.
    pub fn new(values: Vec<f32>) -> Self {
        let length = values.len();
        Self::Given(Arc::new(values), 0..length)
    }

    /// As floats; copied only where their bytes do not lie as floats do.
    pub fn floats(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Given(values, range) => Cow::Borrowed(&values[range.clone()]),
            Self::Came(bytes, range) => {
                let bytes = &bytes[4 * range.start..4 * range.end];
                match bytemuck::try_cast_slice(bytes) {
                    Ok(floats) if cfg!(target_endian = "little") => Cow::Borrowed(floats),
                    _ => {
                        let words = bytes.chunks_exact(4);
                        let word = |w: &[u8]| f32::from_le_bytes([w[0], w[1], w[2], w[3]]);
                        Cow::Owned(words.map(word).collect())
                    }
                }
            }
        }
    }

    /// As floats.
    pub fn into_vec(self) -> Vec<f32> {
        match self {
            Self::Given(values, range) if range == (0..values.len()) => {
                Arc::try_unwrap(values).unwrap_or_else(|shared| shared.to_vec())
            }
            other => other.floats().into_owned(),
        }
    }

    fn block(&self) -> Block {
        match self {
            Self::Came(bytes, range) if 4 * range.start == 0 && 4 * range.end == bytes.len() => {
                bytes.clone()
            }
            _ if cfg!(target_endian = "little") => {
                Arc::new(bytemuck::cast_slice(&self.floats()).to_vec())
            }
            _ => Arc::new(self.floats().iter().flat_map(|x| x.to_le_bytes()).collect()),
        }
    }

    fn range(&self) -> &Range<usize> {
        match self {
            Self::Given(_, range) | Self::Came(_, range) => range,
        }
    }
}

impl Carrier for Memory<'_> {
    type Vector = Values;
    type Pending = (Pending, Vec<usize>);
    type Error = Error;

    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn length(&self, vector: &Values) -> usize {
        vector.range().len()
    }

    fn part(&self, vector: &Values, range: Range<usize>) -> Result<Values, Error> {
        let from = vector.range().start;
        let range = from + range.start..from + range.end;
        Ok(match vector {
            Values::Given(values, _) => Values::Given(values.clone(), range),
            Values::Came(bytes, _) => Values::Came(bytes.clone(), range),
        })
    }

    fn join(&self, mut parts: Vec<Values>) -> Result<Values, Error> {
        if parts.len() == 1
            && let Some(part) = parts.pop()
        {
            return Ok(part);
        }
        let mut values = Vec::with_capacity(parts.iter().map(|p| p.range().len()).sum());
        for part in &parts {
            values.extend_from_slice(&part.floats());
        }
        Ok(Values::new(values))
    }

    fn add(&self, a: Values, b: Values) -> Result<Values, Error> {
        let (a, b) = (a.floats(), b.floats());
        Ok(Values::new(a.iter().zip(&*b).map(|(a, b)| a + b).collect()))
    }

    fn begin(&self, to: Vec<Values>, lengths: Vec<usize>) -> Result<Self::Pending, Error> {
        let mut blocks: Vec<Block> = Vec::with_capacity(to.len());
        for (r, values) in to.iter().enumerate() {
            // What goes to all is made bytes once.
            let same = r > 0 && shares(values, &to[r - 1]);
            let block = match (same, blocks.last()) {
                (true, Some(block)) => block.clone(),
                _ => values.block(),
            };
            blocks.push(block);
        }
        let bytes = lengths.iter().map(|n| n * size_of::<f32>()).collect();
        Ok((self.0.exchange(blocks, bytes)?, lengths))
    }

    fn end(&self, (pending, lengths): Self::Pending) -> Result<Vec<Values>, Error> {
        let blocks = pending.wait()?.into_iter().zip(lengths);
        Ok(blocks.map(|(b, n)| Values::Came(b, 0..n)).collect())
    }
}

/// Whether two are the same values in the same place.
fn shares(a: &Values, b: &Values) -> bool {
    match (a, b) {
        (Values::Given(x, a), Values::Given(y, b)) => a == b && Arc::ptr_eq(x, y),
        (Values::Came(x, a), Values::Came(y, b)) => a == b && Arc::ptr_eq(x, y),
        _ => false,
    }
}
