//! From a take to pixels.

use mtcae_core::Face;
use ndarray::{Array3, Array4};

use crate::action_units::{ActionUnit as Au, ActionUnits};
use crate::background;
use crate::camera::Camera;
use crate::draw::{self, Scene};
use crate::error::{Error, Result};
use crate::motion::Moment;
use crate::paint::Layer;
use crate::shade::{Light, shade};
use crate::take::{Stage, Take};

/// A rendered clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// (T, H, W, 3), RGB.
    pub frames: Array4<u8>,
    /// The face in each frame, in fractions of it.
    pub truth: Vec<Face>,
    /// What the face does in each frame: the mean of its two sides.
    pub units: Vec<ActionUnits>,
}

/// Renders a take, on the thread that calls.
///
/// # Errors
/// [`Error::Setting`] names the field of the take that is out of range.
pub fn render(take: &Take) -> Result<Rendered> {
    clip(take, Studio::new(take)?)
}

/// What makes the frames of a take.
pub(crate) trait Frames {
    /// A frame's instant.
    fn moment(&self, frame: u32) -> Moment;

    /// What the face does in a frame: the mean of its two sides.
    fn units(&self, frame: u32) -> ActionUnits;

    /// Renders a frame into RGB bytes.
    fn frame(&mut self, number: u32, rgb: &mut [u8]) -> Face;
}

/// All frames of a take.
pub(crate) fn clip(take: &Take, mut studio: impl Frames) -> Result<Rendered> {
    let (t, h, w) = (
        take.frames as usize,
        take.height as usize,
        take.width as usize,
    );
    let mut rgb = vec![0; t * h * w * 3];
    let truth = rgb
        .chunks_exact_mut(h * w * 3)
        .zip(0..take.frames)
        .map(|(out, frame)| studio.frame(frame, out))
        .collect();
    let frames = Array4::from_shape_vec((t, h, w, 3), rgb).map_err(|_| too_large(take))?;
    let units = (0..take.frames).map(|frame| studio.units(frame)).collect();
    Ok(Rendered {
        frames,
        truth,
        units,
    })
}

/// Renders one frame of a take, (H, W, 3), RGB: of those at the expression's apex
/// the one nearest to the middle in which the eyes do not blink.
///
/// # Errors
/// As [`render`].
pub fn render_apex(take: &Take) -> Result<(Array3<u8>, Face)> {
    apex(take, Studio::new(take)?)
}

/// The frame at the apex.
pub(crate) fn apex(take: &Take, mut studio: impl Frames) -> Result<(Array3<u8>, Face)> {
    let (h, w) = (take.height as usize, take.width as usize);
    let mut rgb = vec![0; h * w * 3];
    let middle = take.frames / 2;
    let best = (0..take.frames).min_by_key(|&frame| {
        let moment = studio.moment(frame);
        let hidden = moment.blink > 0.05 || moment.course < 0.98;
        (hidden, frame.abs_diff(middle))
    });
    let truth = studio.frame(best.unwrap_or(middle), &mut rgb);
    let frame = Array3::from_shape_vec((h, w, 3), rgb).map_err(|_| too_large(take))?;
    Ok((frame, truth))
}

/// What is true of each frame of a take, without its pixels.
///
/// # Errors
/// As [`render`].
pub fn truth(take: &Take) -> Result<Vec<Face>> {
    let stage = Stage::new(take)?;
    let at = |frame| {
        let moment = stage.moment(frame);
        stage.truth(&stage.face(&moment), &stage.projection(&moment))
    };
    Ok((0..take.frames).map(at).collect())
}

fn too_large(take: &Take) -> Error {
    Error::Setting {
        field: "frames",
        got: take.frames.to_string(),
        want: "no more than fit into memory",
    }
}

/// A take with the pixels that its frames share.
struct Studio {
    stage: Stage,
    light: Light,
    background: Layer,
    picture: Layer,
    head: Layer,
    camera: Camera,
}

impl Studio {
    fn new(take: &Take) -> Result<Self> {
        let stage = Stage::new(take)?;
        let layer = || Layer::new(take.width, take.height).ok_or_else(|| too_large(take));
        let mut background = layer()?;
        background::paint(&mut background, take.seed);
        Ok(Self {
            stage,
            light: Light::new(take.seed),
            background,
            picture: layer()?,
            head: layer()?,
            camera: Camera::new(take.seed),
        })
    }
}

impl Frames for Studio {
    fn moment(&self, frame: u32) -> Moment {
        self.stage.moment(frame)
    }

    fn units(&self, frame: u32) -> ActionUnits {
        let moment = self.stage.moment(frame);
        let mut units = ActionUnits::mean(&self.stage.units(&moment));
        let shut = units.get(Au::EyesClosed) + moment.blink;
        units.set(Au::EyesClosed, shut.clamp(0.0, 1.2));
        units
    }

    fn frame(&mut self, number: u32, rgb: &mut [u8]) -> Face {
        let stage = &self.stage;
        let moment = stage.moment(number);
        let pose = stage.projection(&moment);
        let face = stage.face(&moment);
        let scene = Scene {
            who: &stage.who,
            face: &face,
            pose: &pose,
            gaze: moment.gaze,
        };
        let from = self.background.pixels.data();
        self.picture.pixels.data_mut().copy_from_slice(from);
        draw::body::body(&mut self.picture, &scene, moment.roll, self.light.frontal());
        self.head.clear();
        draw::head(&mut self.head, &scene);
        shade(&mut self.head, &stage.who, &face, &pose, &self.light);
        self.picture.lay(&self.head);
        draw::eyes::glasses(&mut self.picture, &scene);
        let width = self.picture.pixels.width() as usize;
        self.camera.expose(self.picture.pixels.data(), width, rgb);
        stage.truth(&face, &pose)
    }
}
