//! The seam between encoders and all that uses them: what an encoder takes, what it
//! gives, how its parameters are grouped, and how it is computed.
//!
//! A family is two types: a config, which knows everything before a weight is read and
//! builds the encoder, and the encoder. Nothing outside a family's folder names its
//! fields or its tensors.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use mtcae_nn::candle_core::Tensor;
use mtcae_nn::plan::{Arena, Format};
use mtcae_nn::{Pass, VarBuilder};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::error::Error;
use crate::masked::Pretrained;

/// Sizes of an encoder of one family: all that must be known to rebuild it.
pub trait EncoderConfig: Debug + Send + Sync + 'static {
    /// Name of the family: `family` in a `config.json`.
    fn family(&self) -> &'static str;

    /// The fields of a `config.json`, an object without `family`.
    ///
    /// # Errors
    /// When they cannot be written down.
    fn fields(&self) -> serde_json::Result<Value>;

    /// Checks that the values make an encoder, before memory for any of it is taken.
    ///
    /// # Errors
    /// [`Error::Field`] names the first field that does not fit.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What the encoder takes.
    fn input(&self) -> Input;

    /// What it gives.
    fn output(&self) -> Output;

    /// The number of blocks: depths of [`Group`]s are counted by it. Unless a family says
    /// otherwise, the deepest group is the last block.
    fn depth(&self) -> usize {
        self.groups()
            .iter()
            .map(|group| group.depth)
            .max()
            .unwrap_or(0)
    }

    /// All parameters, from input to output.
    fn groups(&self) -> Vec<Group>;

    /// Floating-point operations of one forward of one clip: two for each
    /// multiplication of a matrix product; the rest is left out. Unless a family says more
    /// of it, each parameter meets each token once.
    fn flops(&self) -> f64 {
        let groups = self.groups();
        let parameters = groups.iter().flat_map(|group| &group.parameters);
        let numbers: usize = parameters.map(|p| p.shape.iter().product::<usize>()).sum();
        2.0 * self.output().tokens as f64 * numbers as f64
    }

    /// Numbers that the activations of one clip take at their peak, in inference. Unless a
    /// family says more of it, those of the input and of ten times the features.
    fn activations(&self) -> usize {
        self.input().numbers() + 10 * self.output().numbers()
    }

    /// The same encoder with a drop path rate of its last block in training; `None`
    /// where the family knows no drop path.
    fn with_drop_path(&self, _rate: f64) -> Option<Config> {
        None
    }

    /// How the encoder is pre-trained on clips of which it sees a few tubes; `None` where
    /// the family knows no such training.
    fn pretrained(&self) -> Option<&dyn Pretrained> {
        None
    }

    /// The encoder of the tensors below `vb`, which are those of [`Self::groups`].
    ///
    /// # Errors
    /// When the values do not make an encoder or `vb` refuses a tensor.
    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, Error>;

    /// The encoder for inference on the CPU, packed as its tensors are read; `None`
    /// where the family has no plan and is computed as it is.
    ///
    /// # Errors
    /// As [`Self::build`].
    fn plan(
        &self,
        _format: Format,
        _vb: VarBuilder<'_>,
    ) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(None)
    }
}

/// An encoder: clips in, global features F out. In training its operations all have a
/// backward.
pub trait Encoder: Debug + Send + Sync {
    /// The sizes it was built with.
    fn config(&self) -> &dyn EncoderConfig;

    /// Normalised input (B, …) as [`Input::shape`] says → F (B, N, D), in the mode of
    /// `pass`, which records intermediates by name; the last is `F`. F has the type of the
    /// input, which is bf16 where a GPU computes in it.
    ///
    /// # Errors
    /// [`Error::Input`] when the input has another shape.
    fn run(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor, Error>;

    /// The encoder for inference on the CPU, as [`EncoderConfig::plan`].
    ///
    /// # Errors
    /// When its tensors cannot be read.
    fn plan(&self, _format: Format) -> Result<Option<Arc<dyn EncoderPlan>>, Error> {
        Ok(None)
    }
}

impl dyn Encoder {
    /// Normalised clips (B, T, C, H, W) → F (B, N, D), for inference.
    ///
    /// # Errors
    /// [`Error::Input`] when the clips are of another size.
    pub fn forward(&self, clips: &Tensor) -> Result<Tensor, Error> {
        let input = self.config().input().cut(clips)?;
        self.run(&input, &mut Pass::inference())
    }
}

/// An encoder for inference on the CPU, with packed weights.
pub trait EncoderPlan: Debug + Send + Sync {
    /// The normalised input of one clip, as [`Input::shape`] says → F (N, D).
    ///
    /// # Errors
    /// [`Error::Input`] when there are more or fewer numbers.
    fn forward(&self, input: &[f32], arena: &mut Arena, features: &mut [f32]) -> Result<(), Error>;
}

/// The config of an encoder of any family.
#[derive(Clone, Debug)]
pub struct Config(Arc<dyn EncoderConfig>);

impl<C: EncoderConfig> From<C> for Config {
    fn from(config: C) -> Self {
        Self(Arc::new(config))
    }
}

impl Deref for Config {
    type Target = dyn EncoderConfig;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Config {
    /// Checks that the values make an encoder and that what they say fits together.
    ///
    /// # Errors
    /// [`Error::Field`] names the first field that does not fit.
    pub fn check(&self) -> Result<(), Error> {
        self.validate()?;
        let fault = |field: &str, reason: String| Error::Field {
            origin: "encoder config".to_owned(),
            field: field.to_owned(),
            reason,
        };
        let (input, output, depth) = (self.input(), self.output(), self.depth());
        let (tubelet, patch) = input.tube();
        let whole = |n: usize, by: usize| by > 0 && n > 0 && n.is_multiple_of(by);
        if !whole(input.frames, tubelet) || !whole(input.size, patch) {
            let reason = format!("{input:?} is not cut into whole tubes");
            return Err(fault("input", reason));
        }
        if output.tokens == 0 || output.width == 0 {
            return Err(fault("output", format!("{output:?} holds no features")));
        }
        if let Some([t, h, w]) = output.grid
            && t.saturating_mul(h).saturating_mul(w) != output.tokens
        {
            return Err(fault(
                "output",
                format!("the grid of {output:?} is not its tokens"),
            ));
        }
        for group in self.groups() {
            let (name, at) = (group.name, group.depth.max(group.rate_depth));
            if at > depth + 1 {
                let reason =
                    format!("{name} is at depth {at}, above {depth} blocks and what follows them");
                return Err(fault("groups", reason));
            }
        }
        Ok(())
    }

    /// Names and shapes of all tensors below the encoder's prefix.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let groups = self.groups().into_iter();
        groups
            .flat_map(|group| group.parameters)
            .map(|p| (p.name, p.shape))
            .collect()
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        let fields = |config: &Self| config.fields().ok();
        self.family() == other.family() && fields(self) == fields(other)
    }
}

/// An object of `family` and the family's fields.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.fields().map_err(serde::ser::Error::custom)?;
        let Value::Object(fields) = fields else {
            return Err(serde::ser::Error::custom("the fields are no object"));
        };
        let family = ("family".to_owned(), self.family().into());
        serializer.collect_map([family].into_iter().chain(fields))
    }
}

/// What an encoder takes. Mean, deviation and sampling are the checkpoint's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Frames T of a clip.
    pub frames: usize,
    /// Height and width of a frame, in pixels.
    pub size: usize,
    /// Colour channels C.
    pub channels: usize,
    /// How the numbers of a clip lie.
    pub layout: Layout,
}

/// How the numbers of a clip lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Cut into tubes (N, C·t·p·p): tubes in the order t, h, w, values in the order
    /// c, t, h, w.
    Tubes {
        /// Frames t of a tube.
        tubelet: usize,
        /// Height and width p of a tube, in pixels.
        patch: usize,
    },
    /// Frame after frame (T, C, H, W).
    Frames,
}

impl Input {
    /// The shape of one clip.
    pub fn shape(&self) -> Vec<usize> {
        let (t, side) = self.tube();
        let across = self.size / side;
        match self.layout {
            Layout::Tubes { .. } => vec![
                self.frames / t * across * across,
                self.channels * t * side * side,
            ],
            Layout::Frames => vec![self.frames, self.channels, self.size, self.size],
        }
    }

    /// Numbers of one clip.
    pub fn numbers(&self) -> usize {
        self.frames * self.channels * self.size * self.size
    }

    /// Frames and side in pixels of the blocks whose numbers lie together: a tube, or a
    /// whole frame.
    pub fn tube(&self) -> (usize, usize) {
        match self.layout {
            Layout::Tubes { tubelet, patch } => (tubelet, patch),
            Layout::Frames => (1, self.size),
        }
    }

    /// Normalised clips (B, T, C, H, W) → what [`Encoder::run`] takes.
    ///
    /// # Errors
    /// [`Error::Input`] when the clips are of another size.
    pub fn cut(&self, clips: &Tensor) -> Result<Tensor, Error> {
        let want = [self.frames, self.channels, self.size, self.size];
        if clips.rank() != 5 || clips.dims()[1..] != want {
            return Err(wrong("clips", clips, &want));
        }
        match self.layout {
            Layout::Tubes { tubelet, patch } => Ok(mtcae_nn::tubes(clips, tubelet, patch)?),
            Layout::Frames => Ok(clips.clone()),
        }
    }

    /// Makes sure that a batch (B, …) has the shape of this input.
    ///
    /// # Errors
    /// [`Error::Input`] when it has not, or is empty.
    pub fn check(&self, batch: &Tensor) -> Result<(), Error> {
        let want = self.shape();
        match batch.dims() {
            [b, clip @ ..] if *b > 0 && clip == want => Ok(()),
            _ => Err(wrong(self.name(), batch, &want)),
        }
    }

    /// Makes sure that one clip has as many numbers as this input.
    ///
    /// # Errors
    /// [`Error::Input`] when it has not.
    pub fn check_numbers(&self, clip: &[f32]) -> Result<(), Error> {
        as_many(self.name(), clip, self.numbers())
    }

    fn name(&self) -> &'static str {
        match self.layout {
            Layout::Tubes { .. } => "tubes",
            Layout::Frames => "frames",
        }
    }
}

fn as_many(what: &'static str, found: &[f32], want: usize) -> Result<(), Error> {
    match found.len() == want {
        true => Ok(()),
        false => Err(Error::Input {
            what,
            found: vec![found.len()],
            want: format!("{want} numbers of one clip"),
        }),
    }
}

fn wrong(what: &'static str, found: &Tensor, want: &[usize]) -> Error {
    let want: Vec<String> = want.iter().map(usize::to_string).collect();
    Error::Input {
        what,
        found: found.dims().to_vec(),
        want: format!("(B, {})", want.join(", ")),
    }
}

/// What an encoder gives: features F (B, N, D).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Tokens N.
    pub tokens: usize,
    /// Channels D.
    pub width: usize,
    /// The grid behind N, in the order of the tokens: (t, h, w), whose product N is.
    /// `None` where tokens have no place.
    pub grid: Option<[usize; 3]>,
}

impl Output {
    /// Numbers of one clip's features.
    pub fn numbers(&self) -> usize {
        self.tokens * self.width
    }

    /// Makes sure that there is room for one clip's features, and no more.
    ///
    /// # Errors
    /// [`Error::Input`] when there is not.
    pub fn check_numbers(&self, features: &[f32]) -> Result<(), Error> {
        as_many("features", features, self.numbers())
    }
}

/// Parameters that are frozen together and learn at one rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are of, in the family's words.
    pub name: String,
    /// 0 for what comes before the first block, i + 1 for block i, one more than the
    /// number of blocks for what comes after the last. Freezing goes by it.
    pub depth: usize,
    /// The depth that layer-wise decay of the learning rate counts: that of its place,
    /// but where the family is published with another.
    pub rate_depth: usize,
    /// The parameters, by the names that [`EncoderConfig::build`] asks for.
    pub parameters: Vec<Parameter>,
}

impl Group {
    /// A group of parameters by name and shape, of which vectors do not decay.
    pub fn new<N: Into<String>>(
        name: impl Into<String>,
        depth: usize,
        parameters: impl IntoIterator<Item = (N, Vec<usize>)>,
    ) -> Self {
        let parameters = parameters.into_iter();
        Self {
            name: name.into(),
            depth,
            rate_depth: depth,
            parameters: parameters
                .map(|(name, shape)| Parameter::new(name, shape))
                .collect(),
        }
    }
}

/// One tensor that can be trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name below the encoder's prefix.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether weight decay is for it: not for biases, norms and positions.
    pub decays: bool,
    /// Whether it has a gradient: F depends on it, and not as on a running mean. What has none
    /// is kept as it is.
    pub used: bool,
    /// Whether training moves it all the same, as BatchNorm's running mean and variance.
    pub follows: bool,
}

impl Parameter {
    /// One that F depends on, and that decays unless it is a vector.
    pub fn new(name: impl Into<String>, shape: Vec<usize>) -> Self {
        Self {
            name: name.into(),
            decays: shape.len() > 1,
            used: true,
            follows: false,
            shape,
        }
    }
}
