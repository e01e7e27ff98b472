//! Pictures of an answer: contact sheets, timelines, annotated videos.
//!
//! The model's own face is green, MTCNN's blue, the part of the picture that the model
//! saw, where that is not all of it, yellow.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::Path;

use mtcae_core::{Resize, gaps};
use mtcae_video::{
    Clip, ClipOptions, ClipWriter, FrameResizer, FullFrame, Sound, Video, WriterOptions,
};
pub use mtcae_viz as viz;
use mtcae_viz::{
    Canvas, Colour, Series, contact_sheet, draw_face, draw_legend, draw_part, draw_tag,
    probability_panel, timeline as plot,
};

use crate::people::{finely, length};
use crate::{
    Answer, ClassProbability, Error, FaceBox, FramePrediction, Landmarks, Pipeline, Prediction,
    Timeline,
};

/// The colour of the model's own face.
const MODEL: Colour = Colour::new(86, 220, 120);
/// The colour of the detector's.
const DETECTOR: Colour = Colour::new(90, 180, 255);
/// The colour of what the model looked at.
const CROP: Colour = Colour::new(250, 200, 80);
/// Behind everything.
const GROUND: Colour = Colour::new(24, 24, 28);

/// Pixels of an annotated video's frame; larger videos are drawn smaller. What an
/// encoder holds of larger frames would fill the memory.
const LARGEST: f64 = 4096.0 * 2304.0;

/// Whether what a checkpoint was trained on is what `mtcae-synth` renders.
pub fn is_rendered(trained_on: &str) -> bool {
    trained_on.starts_with("synth")
}

/// An answer about a file as one picture: for each person the sampled frames with faces
/// on them beside the probabilities or, of windows, the course of the probabilities.
/// `follows` says that it is about crops to faces
/// ([`FaceFinder::predict_people`](crate::FaceFinder::predict_people)).
///
/// ```no_run
/// use mtcae_dfer::{Answer, Device, Pipeline, annotate};
///
/// let pipeline = Pipeline::load("checkpoint", &Device::Cpu)?;
/// let answer = Answer::Clip(vec![pipeline.predict("face.mp4")?]);
/// let picture = annotate::sheet(&pipeline, &answer, "face.mp4", false)?;
/// annotate::viz::save_png("face.png", &picture)?;
/// annotate::film("face.annotated.mp4", &answer, "face.mp4", false, |_seconds| ())?;
/// # Ok::<(), mtcae_dfer::Error>(())
/// ```
///
/// # Errors
/// What reading the file again met, which its name is in.
pub fn sheet(
    pipeline: &Pipeline,
    answer: &Answer,
    video: impl AsRef<Path>,
    follows: bool,
) -> Result<Canvas, Error> {
    let video = video.as_ref();
    let parts = match answer {
        Answer::Clip(people) => {
            let mut video = pipeline.open(video)?;
            let options = pipeline.clip_options();
            let options = match follows {
                true => finely(options, length(None, &mut video)?).0,
                false => options.clone(),
            };
            // People's frames are the same but for the size, and mostly that too.
            let mut read: BTreeMap<(u32, u32), Vec<Clip>> = BTreeMap::new();
            let mut parts = Vec::with_capacity(people.len());
            for prediction in people {
                let size = shown_size(prediction);
                let clips = match read.entry(size) {
                    Entry::Occupied(clips) => clips.into_mut(),
                    Entry::Vacant(place) => {
                        // In the video's own aspect.
                        let options = ClipOptions {
                            size,
                            resize: Resize::Squash,
                            ..options.clone()
                        };
                        place.insert(pipeline.install(|| video.clips(&options))?)
                    }
                };
                parts.push(of_clip(prediction, clips)?);
            }
            parts
        }
        Answer::Windows(timelines) => timelines
            .iter()
            .map(course)
            .collect::<Result<Vec<_>, _>>()?,
    };
    Ok(contact_sheet(&parts, 1)?)
}

/// The numbers of the sampled frames. Those that were sampled several times, as a still
/// picture's, are shown once.
fn shown(prediction: &Prediction) -> BTreeSet<u64> {
    prediction.frames.iter().map(|f| f.index).collect()
}

/// Width and height that these are shown in.
fn shown_size(prediction: &Prediction) -> (u32, u32) {
    let width = match shown(prediction).len() {
        0 | 1 => 640,
        2..=4 => 480,
        _ => 240,
    };
    let (w, h) = prediction.source.display_size();
    let height = f64::from(width) * f64::from(h) / f64::from(w);
    // A picture of any shape stays one that fits on a screen.
    let shrink = (f64::from(width * 4) / height).min(1.0);
    let side = |v: f64| (v * shrink).round().max(1.0) as u32;
    (side(width.into()), side(height))
}

/// The sampled frames with faces on them, beside the probabilities.
fn of_clip(prediction: &Prediction, clips: &[Clip]) -> Result<Canvas, Error> {
    const PANEL: usize = 360;
    let mut wanted = shown(prediction);
    let count = wanted.len();
    let (width, height) = shown_size(prediction);
    let scale = [
        width as f32 / prediction.source.width as f32,
        height as f32 / prediction.source.height as f32,
    ];
    let mut pictures = Vec::new();
    for clip in clips {
        let stamps = clip.times.iter().zip(&clip.indices);
        for (frame, (time, index)) in clip.frames.outer_iter().zip(stamps) {
            if !wanted.remove(index) {
                continue;
            }
            let mut picture = Canvas::from_frame(frame)?;
            draw_crop(&mut picture, prediction, scale);
            if let Some(seen) = prediction.frame_at(*time) {
                draw(&mut picture, seen, scale, "");
            }
            if count > 1 {
                draw_tag(&mut picture, &format!("{time:.2} s"), Colour::WHITE);
            }
            pictures.push(picture);
        }
    }
    let columns = if pictures.len() <= 4 { 2 } else { 4 };
    let frames = contact_sheet(&pictures, columns)?;
    let panel = probability_panel(
        PANEL,
        frames.height(),
        &lines(prediction),
        &bars_of(&prediction.probabilities),
        &legend([prediction]),
    )?;
    let size = (frames.width() + PANEL, panel.height());
    let mut picture = Canvas::new(size.0, size.1, GROUND)?;
    picture.paste(&frames, 0, 0);
    picture.paste(&panel, frames.width(), 0);
    Ok(picture)
}

/// What the colours mean, of those that are drawn.
fn legend<'a>(
    predictions: impl IntoIterator<Item = &'a Prediction>,
) -> Vec<(&'static str, Colour)> {
    let (mut model, mut detector, mut crop) = (false, false, false);
    for prediction in predictions {
        crop |= prediction.source.crop.is_some();
        for frame in &prediction.frames {
            model |= frame.face_box.is_some() || frame.landmarks.is_some();
            detector |= frame.detected.is_some();
        }
    }
    let all = [
        (model, ("model", MODEL)),
        (detector, ("MTCNN", DETECTOR)),
        (crop, ("seen by the model", CROP)),
    ];
    all.into_iter()
        .filter_map(|(is, e)| is.then_some(e))
        .collect()
}

/// Draws the part of the picture that the model saw, where it is not all of it.
fn draw_crop(picture: &mut Canvas, prediction: &Prediction, [sx, sy]: [f32; 2]) {
    if let Some(crop) = prediction.source.crop {
        let (x, y) = (crop.x as f32, crop.y as f32);
        let (x2, y2) = (x + crop.width as f32, y + crop.height as f32);
        draw_part(picture, [x * sx, y * sy, x2 * sx, y2 * sy], CROP);
    }
}

/// The smoothed probabilities over the length of the video.
fn course(timeline: &Timeline) -> Result<Canvas, Error> {
    let classes = timeline
        .points
        .first()
        .map(|p| p.probabilities.len())
        .unwrap_or(0);
    let series: Vec<Series> = (0..classes)
        .map(|c| Series {
            name: timeline.points[0].probabilities[c].class.clone(),
            points: timeline
                .points
                .iter()
                .map(|p| (p.time, p.probabilities[c].probability))
                .collect(),
        })
        .collect();
    let first = timeline.windows.first();
    let file = first.and_then(|p| p.file.as_ref()?.file_name());
    let mut title = file.map_or_else(String::new, |f| f.to_string_lossy().into_owned());
    if let Some(person) = first.and_then(|p| p.person) {
        title += &format!(", person {person}");
    }
    let title = (title.as_str(), "probabilities, smoothed over windows");
    Ok(plot(title, &series, 1200, 460)?)
}

/// Writes the whole video anew, with faces and expression drawn on every frame, and its
/// sound, of which it says what became. Frames have at most 4096×2304 pixels; larger ones
/// are made smaller. `follows` as of [`sheet`]; `progress` is given the seconds that are
/// done after every frame.
///
/// # Errors
/// [`Error::SizeChange`], or what reading or writing met, with the file's name. Nothing is
/// left behind then.
pub fn film(
    path: impl AsRef<Path>,
    answer: &Answer,
    video: impl AsRef<Path>,
    follows: bool,
    mut progress: impl FnMut(f64),
) -> Result<Sound, Error> {
    let (path, video) = (path.as_ref(), video.as_ref());
    let frames = Video::open(video)?.frames()?;
    let rate = frames.video().info().frame_rate;
    let legend = legend(answer.predictions());
    let mut resizer = FrameResizer::default();
    let mut film: Option<Film> = None;
    for frame in frames {
        let FullFrame {
            pixels,
            source,
            time,
            ..
        } = fitting(frame?, &mut resizer)?;
        let (height, width, _) = pixels.dim();
        let scale = [
            width as f32 / source.width as f32,
            height as f32 / source.height as f32,
        ];
        let mut picture = Canvas::from_frame(pixels.view())?;
        drop(pixels);
        for prediction in at(answer, time) {
            let person = prediction
                .person
                .map(|n| format!("{n}: "))
                .unwrap_or_default();
            let percent = 100.0 * prediction.confidence;
            let label = match &prediction.refusal {
                None => format!("{person}{} {percent:.0}%", prediction.expression),
                Some(refusal) => format!("{person}no answer: {}", refusal.name()),
            };
            let Some(seen) = between(prediction, time, follows) else {
                continue;
            };
            draw_crop(&mut picture, prediction, scale);
            draw(&mut picture, &seen, scale, &label);
            if prediction.trained_on.is_none() {
                draw_face(&mut picture, None, None, "untrained model", Colour::WHITE);
            }
        }
        // On smaller pictures nothing else would be left.
        if width.min(height) >= 160 && !legend.is_empty() {
            draw_legend(&mut picture, &legend);
        }
        let film = match &mut film {
            Some(open) => open,
            None => {
                let options = WriterOptions {
                    fps: rate,
                    sound_of: Some(video.to_owned()),
                    ..WriterOptions::new(width as u32, height as u32)
                };
                film.insert(Film {
                    writer: ClipWriter::create(path, &options)?,
                    size: (width, height),
                })
            }
        };
        if film.size != (width, height) {
            return Err(Error::SizeChange { time }.of(video));
        }
        film.writer
            .write_rows(time, |y, row| picture.copy_row(y, row))?;
        progress(time);
    }
    match film {
        Some(film) => Ok(film.writer.finish()?),
        None => Ok(Sound::None),
    }
}

/// A film that is being written.
struct Film {
    writer: ClipWriter,
    size: (usize, usize),
}

/// A frame that is no larger than an annotated video's: made smaller where it is.
fn fitting(frame: FullFrame, resizer: &mut FrameResizer) -> Result<FullFrame, Error> {
    let (w, h) = (frame.source.width, frame.source.height);
    let shrink = (LARGEST / (f64::from(w) * f64::from(h))).sqrt();
    if shrink >= 1.0 {
        return Ok(frame);
    }
    let side = |v: u32| (f64::from(v) * shrink).floor().clamp(1.0, 16_384.0) as u32;
    let part = frame.part(&Resize::Squash, (side(w), side(h)), resizer);
    let (pixels, source) = part.map_err(Error::Part)?;
    Ok(FullFrame {
        pixels,
        source,
        ..frame
    })
}

/// The predictions that speak of a time: everybody's of a clip; of windows the one
/// over it whose centre is nearest.
fn at(answer: &Answer, time: f64) -> Vec<&Prediction> {
    match answer {
        Answer::Clip(people) => people.iter().collect(),
        Answer::Windows(timelines) => timelines.iter().filter_map(|t| of(t, time)).collect(),
    }
}

/// The window over a time whose centre is nearest to it.
fn of(timeline: &Timeline, time: f64) -> Option<&Prediction> {
    let windows = timeline.windows.as_slice();
    let distance = |i: usize| ((windows[i].start + windows[i].end) / 2.0 - time).abs();
    // Centres grow, so the nearest is one of two.
    let after = windows.partition_point(|p| (p.start + p.end) / 2.0 < time);
    let near = after.saturating_sub(1)..windows.len().min(after + 1);
    near.filter(|&i| windows[i].start <= time && time <= windows[i].end)
        .min_by(|&i, &j| distance(i).total_cmp(&distance(j)))
        .map(|i| &windows[i])
}

/// The face at a time, drawn between the sampled frames before and after it; `None` where
/// the answer `follows` somebody, and these lie too far off for them to be there still.
fn between(prediction: &Prediction, time: f64, follows: bool) -> Option<FramePrediction> {
    let frames = &prediction.frames;
    let (a, b) = match gaps::around(frames, time, |f| f.time) {
        (Some(a), Some(b)) => (a, b),
        (Some(only), None) | (None, Some(only)) => (only, only),
        (None, None) => return None,
    };
    let reach = (prediction.end - prediction.start) / frames.len() as f64 + 0.5;
    let gap = (time - a.time).abs().min((b.time - time).abs());
    if follows && gap > reach {
        return None;
    }
    let share = gaps::share(a.time, b.time, time);
    let mut seen = a.clone();
    seen.face_box = match (a.face_box, b.face_box) {
        (Some(a), Some(b)) => Some(a.towards(&b, share)),
        (a, b) => a.or(b),
    };
    seen.landmarks = match (a.landmarks, b.landmarks) {
        (Some(a), Some(b)) => Some(a.towards(&b, share)),
        (a, b) => a.or(b),
    };
    if let (Some(a), Some(b)) = (a.detected, b.detected) {
        seen.detected = Some(a.towards(&b, share));
    }
    Some(seen)
}

/// The model's face with its label and, in another colour, the detector's.
fn draw(picture: &mut Canvas, frame: &FramePrediction, [sx, sy]: [f32; 2], label: &str) {
    let mut face = |face_box: Option<FaceBox>, landmarks: Option<Landmarks>, label, colour| {
        let scaled = |[x, y]: [f32; 2]| [x * sx, y * sy];
        let (face_box, landmarks) = (
            face_box.map(|b| b.map(scaled)),
            landmarks.map(|l| l.map(scaled)),
        );
        draw_face(picture, face_box, landmarks, label, colour);
    };
    if let Some(d) = &frame.detected {
        face(Some(d.face_box), Some(d.landmarks), "", DETECTOR);
    }
    face(frame.face_box, frame.landmarks, label, MODEL);
}

fn lines(p: &Prediction) -> Vec<String> {
    let mut lines = match &p.refusal {
        None => vec![format!("{} {:.1}%", p.expression, 100.0 * p.confidence)],
        Some(refusal) => vec![format!("no answer: {}", refusal.name())],
    };
    if p.refusal.is_some() && p.is_judged() {
        let two = p.likeliest().into_iter();
        let two = two.map(|c| format!("{} {:.1}%", c.class, 100.0 * c.probability));
        lines.push(two.collect::<Vec<_>>().join(" or "));
    }
    lines.extend(p.person.map(|n| format!("person {n}")));
    if let Some(name) = p.file.as_ref().and_then(|f| f.file_name()) {
        lines.push(name.to_string_lossy().into_owned());
    }
    lines.push(format!(
        "{}x{}, {:.2} s to {:.2} s",
        p.source.width, p.source.height, p.start, p.end
    ));
    match &p.seen {
        Some(seen) if seen.frames == 0 && p.refusal.is_none() => {
            lines.push(format!("no face is seen in {} frames:", seen.of));
            lines.push("the answer rests on nothing".to_owned());
        }
        Some(seen) => lines.push(format!("face in {} of {} frames", seen.frames, seen.of)),
        None => {}
    }
    match &p.trained_on {
        None => {
            lines.push("untrained model:".to_owned());
            lines.push("these numbers mean nothing".to_owned());
        }
        Some(on) if is_rendered(on) => lines.push("trained on rendered faces".to_owned()),
        Some(_) => {}
    }
    lines
}

fn bars_of(probabilities: &[ClassProbability]) -> Vec<(String, f32)> {
    probabilities
        .iter()
        .map(|p| (p.class.clone(), p.probability))
        .collect()
}
