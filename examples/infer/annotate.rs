//! Pictures of an answer.

use std::path::Path;

use mtcae_dfer::video::{ClipOptions, ClipWriter, Resize, Video, WriterOptions};
use mtcae_dfer::{
    ClassProbability, FaceBox, FramePrediction, Landmarks, Pipeline, Prediction, Timeline,
};
use mtcae_examples::Bars;
use mtcae_viz::{
    Canvas, Colour, Face, Series, contact_sheet, draw_face, probability_panel, save_png,
    timeline as plot,
};

use crate::args::Kind;
use crate::summary::rendered;
use crate::{Answer, Fault};

/// The colour of the model's own face.
const MODEL: Colour = Colour::new(86, 220, 120);
/// The colour of the detector's.
const DETECTOR: Colour = Colour::new(90, 180, 255);

/// Draws an answer into a file.
pub fn write(
    path: &Path,
    kind: Kind,
    answer: &Answer,
    video: &Path,
    pipeline: &Pipeline,
    bars: Bars,
) -> Result<(), Fault> {
    match (kind, answer) {
        (Kind::Png, Answer::Clip(people)) => {
            let sheets = people
                .iter()
                .map(|prediction| sheet(prediction, video, pipeline))
                .collect::<Result<Vec<_>, _>>()?;
            save_png(path, &contact_sheet(&sheets, 1)?)?;
        }
        (Kind::Png, Answer::Windows(timelines)) => {
            let plots = timelines
                .iter()
                .map(course)
                .collect::<Result<Vec<_>, _>>()?;
            save_png(path, &contact_sheet(&plots, 1)?)?;
        }
        (Kind::Mp4, _) => film(path, answer, video, bars)?,
    }
    Ok(())
}

/// The sampled frames with faces on them, beside the probabilities.
fn sheet(prediction: &Prediction, video: &Path, pipeline: &Pipeline) -> Result<Canvas, Fault> {
    const WIDTH: u32 = 240;
    const PANEL: usize = 360;
    let (w, h) = prediction.source.display_size();
    let height = (f64::from(WIDTH) * f64::from(h) / f64::from(w))
        .round()
        .clamp(1.0, 4096.0) as u32;
    // The same frames again, in the video's own aspect.
    let options = ClipOptions {
        size: (WIDTH, height),
        resize: Resize::Squash,
        ..pipeline.clip_options().clone()
    };
    let scale = [
        WIDTH as f32 / prediction.source.width as f32,
        height as f32 / prediction.source.height as f32,
    ];
    let mut pictures = Vec::new();
    for clip in Video::open(video)?.clips(&options)? {
        for (frame, time) in clip.frames.outer_iter().zip(&clip.times) {
            let mut picture = Canvas::from_frame(frame)?;
            if let Some(seen) = prediction.frame_at(*time) {
                draw(&mut picture, seen, scale, format!("{time:.2}s"));
            }
            pictures.push(picture);
        }
    }
    let frames = contact_sheet(&pictures, 4)?;
    let lines = lines(prediction);
    let panel = probability_panel(
        PANEL,
        frames.height(),
        &lines,
        &bars_of(&prediction.probabilities),
    )?;
    let mut picture = Canvas::new(frames.width() + PANEL, frames.height(), Colour::BLACK)?;
    picture.paste(&frames, 0, 0);
    picture.paste(&panel, frames.width(), 0);
    Ok(picture)
}

/// The smoothed probabilities over the length of the video.
fn course(timeline: &Timeline) -> Result<Canvas, Fault> {
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
    Ok(plot(&series, 1200, 420)?)
}

/// The whole video with faces and expression drawn on every frame.
fn film(path: &Path, answer: &Answer, video: &Path, bars: Bars) -> Result<(), Fault> {
    let frames = Video::open(video)?.frames()?;
    let info = frames.video().info();
    let bar = bars.seconds("annotating", info.duration);
    let rate = info.frame_rate;
    let mut writer: Option<(ClipWriter, usize, usize)> = None;
    for frame in frames {
        let frame = frame?;
        let mut picture = Canvas::from_frame(frame.pixels.view())?;
        for prediction in at(answer, frame.time) {
            let person = prediction
                .person
                .map(|n| format!("{n}: "))
                .unwrap_or_default();
            let percent = 100.0 * prediction.confidence;
            let label = format!("{person}{} {percent:.0}%", prediction.expression);
            if let Some(seen) = between(&prediction.frames, frame.time) {
                draw(&mut picture, &seen, [1.0; 2], label);
            }
            if prediction.trained_on.is_none() {
                let note = Face {
                    label: "untrained model".to_owned(),
                    ..Face::default()
                };
                draw_face(&mut picture, &note, Colour::WHITE);
            }
        }
        let (width, height) = (picture.width(), picture.height());
        let (writer, w, h) = match &mut writer {
            Some(open) => open,
            None => {
                let options = WriterOptions {
                    fps: rate,
                    ..WriterOptions::new(width as u32, height as u32)
                };
                writer.insert((ClipWriter::create(path, &options)?, width, height))
            }
        };
        if (*w, *h) != (width, height) {
            return Err(format!(
                "{}: the picture's size changes at {:.2} s, which an annotated video cannot follow",
                video.display(),
                frame.time
            )
            .into());
        }
        writer.write(&picture.to_frame().view(), frame.time)?;
        bar.set_position(frame.time as u64);
    }
    bar.finish_and_clear();
    if let Some((writer, ..)) = writer {
        writer.finish()?;
    }
    Ok(())
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
    near.min_by(|&i, &j| distance(i).total_cmp(&distance(j)))
        .map(|i| &windows[i])
}

/// The face at a time, drawn between the sampled frames before and after it.
fn between(frames: &[FramePrediction], time: f64) -> Option<FramePrediction> {
    let after = frames.partition_point(|f| f.time < time);
    let (a, b) = match (after.checked_sub(1).map(|i| &frames[i]), frames.get(after)) {
        (Some(a), Some(b)) => (a, b),
        (Some(only), None) | (None, Some(only)) => return Some(only.clone()),
        (None, None) => return None,
    };
    let w = if b.time > a.time {
        ((time - a.time) / (b.time - a.time)) as f32
    } else {
        0.0
    };
    let mut seen = a.clone();
    seen.face_box = mix_boxes(a.face_box, b.face_box, w);
    seen.landmarks = mix_landmarks(a.landmarks, b.landmarks, w);
    if let (Some(s), Some(b)) = (&mut seen.detected, &b.detected) {
        s.face_box = mix_boxes(Some(s.face_box), Some(b.face_box), w).unwrap_or(s.face_box);
        s.landmarks = mix_landmarks(Some(s.landmarks), Some(b.landmarks), w).unwrap_or(s.landmarks);
    }
    Some(seen)
}

/// The box at `w` of the way from one to the other; the one that there is.
fn mix_boxes(a: Option<FaceBox>, b: Option<FaceBox>, w: f32) -> Option<FaceBox> {
    let (Some(a), Some(b)) = (a, b) else {
        return a.or(b);
    };
    let mix = |x: f32, y: f32| x + w * (y - x);
    Some(FaceBox::from([
        mix(a.x1, b.x1),
        mix(a.y1, b.y1),
        mix(a.x2, b.x2),
        mix(a.y2, b.y2),
    ]))
}

/// As [`mix_boxes`].
fn mix_landmarks(a: Option<Landmarks>, b: Option<Landmarks>, w: f32) -> Option<Landmarks> {
    let (Some(a), Some(b)) = (a, b) else {
        return a.or(b);
    };
    let (p, q) = (a.points(), b.points());
    Some(Landmarks::from(std::array::from_fn(|i| {
        std::array::from_fn(|c| p[i][c] + w * (q[i][c] - p[i][c]))
    })))
}

/// The model's face with its label and, in another colour, the detector's.
fn draw(picture: &mut Canvas, frame: &FramePrediction, scale: [f32; 2], label: String) {
    if let Some(d) = &frame.detected {
        let mtcnn = "MTCNN".to_owned();
        draw_face(
            picture,
            &face(Some(d.face_box), Some(d.landmarks), scale, mtcnn),
            DETECTOR,
        );
    }
    draw_face(
        picture,
        &face(frame.face_box, frame.landmarks, scale, label),
        MODEL,
    );
}

fn face(
    bounds: Option<FaceBox>,
    landmarks: Option<Landmarks>,
    [sx, sy]: [f32; 2],
    label: String,
) -> Face {
    let points = landmarks.iter().flat_map(|l| l.points());
    Face {
        bounds: bounds.map(|b| [b.x1 * sx, b.y1 * sy, b.x2 * sx, b.y2 * sy]),
        landmarks: points.map(|[x, y]| [x * sx, y * sy]).collect(),
        label,
    }
}

fn lines(p: &Prediction) -> Vec<String> {
    let mut lines = vec![format!("{} {:.1}%", p.expression, 100.0 * p.confidence)];
    lines.extend(p.person.map(|n| format!("person {n}")));
    if let Some(name) = p.file.as_ref().and_then(|f| f.file_name()) {
        lines.push(name.to_string_lossy().into_owned());
    }
    lines.push(format!(
        "{}x{}, {:.2} s to {:.2} s",
        p.source.width, p.source.height, p.start, p.end
    ));
    match &p.trained_on {
        None => {
            lines.push("untrained model:".to_owned());
            lines.push("these numbers mean nothing".to_owned());
        }
        Some(on) if rendered(on) => lines.push("trained on rendered faces".to_owned()),
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
