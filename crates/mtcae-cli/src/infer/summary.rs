//! What a person reads on the terminal.

use std::io::{Result, Write};

use mtcae_dfer::annotate::is_rendered;
use mtcae_dfer::{Answer, FaceBox, Prediction, Seen, Timeline};

/// Action units weaker than this are not printed.
const LEAST_SHOWN: f32 = 0.15;

/// Prints an answer for a person.
pub fn print(out: &mut dyn Write, answer: &Answer, default: bool) -> Result<()> {
    match answer {
        Answer::Clip(people) => {
            for prediction in people {
                clip(out, prediction)?;
            }
        }
        Answer::Windows(timelines) => {
            for timeline in timelines {
                windows(out, timeline)?;
            }
        }
    }
    let which = if default {
        "The default model"
    } else {
        "This checkpoint"
    };
    match answer
        .predictions()
        .first()
        .map(|p| p.trained_on.as_deref())
    {
        Some(None) => writeln!(
            out,
            "\n{which} is untrained: its weights are random, and these numbers say nothing about the face."
        )?,
        Some(Some(on)) if is_rendered(on) => writeln!(
            out,
            "\n{which} was trained on rendered faces alone ({on}). What it makes of real ones: docs/faces.md."
        )?,
        Some(Some(on)) => writeln!(out, "\n{which} was trained on {on}.")?,
        None => {}
    }
    writeln!(out)
}

fn title(out: &mut dyn Write, p: &Prediction) -> Result<()> {
    let file = p
        .file
        .as_ref()
        .map_or_else(|| "clip".to_owned(), |f| f.display().to_string());
    let (width, height) = (p.source.width, p.source.height);
    let person = p
        .person
        .map(|n| format!("  person {n}"))
        .unwrap_or_default();
    writeln!(out, "{file}  {width}x{height}{person}")
}

fn clip(out: &mut dyn Write, p: &Prediction) -> Result<()> {
    title(out, p)?;
    let doubt = if p.is_faceless() {
        ", but no face is seen"
    } else {
        ""
    };
    match &p.refusal {
        None => writeln!(
            out,
            "\nexpression: {} ({:.1}%){doubt}",
            p.expression,
            100.0 * p.confidence
        )?,
        Some(refusal) => writeln!(out, "\nno answer: {refusal}")?,
    }
    if p.refusal.is_some() && p.is_judged() {
        let two = p.likeliest().into_iter();
        let two = two.map(|c| format!("{} ({:.1}%)", c.class, 100.0 * c.probability));
        writeln!(out, "likeliest: {}", two.collect::<Vec<_>>().join(", "))?;
    }
    let width = p
        .probabilities
        .iter()
        .map(|c| c.class.chars().count())
        .max()
        .unwrap_or(0);
    for c in &p.probabilities {
        let bar = "#".repeat((40.0 * c.probability).round() as usize);
        writeln!(
            out,
            "  {:width$} {:5.1}%  {bar}",
            c.class,
            100.0 * c.probability
        )?;
    }
    let mut units = p.mean_action_units();
    units.retain(|(_, strength)| *strength >= LEAST_SHOWN);
    units.sort_by(|a, b| b.1.total_cmp(&a.1));
    if !units.is_empty() {
        let each = units
            .iter()
            .map(|(name, strength)| format!("{name} {strength:.1}"));
        let each: Vec<_> = each.collect();
        writeln!(
            out,
            "\naction units from {LEAST_SHOWN}, 1 being all: {}",
            each.join(", ")
        )?;
    }
    if let Some(Seen {
        frames,
        of,
        at,
        min_face,
    }) = &p.seen
    {
        writeln!(
            out,
            "\nface seen in {frames} of {of} frames (MTCNN, {at}, faces from {min_face:.0} pixels)"
        )?;
    }
    if p.frames
        .iter()
        .all(|f| f.face_box.is_none() && f.detected.is_none())
    {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:>6} {:>8}  {:<27}  {:<27}  landmarks of the model: eyes, nose, mouth",
        "frame", "time", "face box of the model", "face box of MTCNN"
    )?;
    for f in &p.frames {
        let seen = f.detected.map(|d| d.face_box);
        let points = f
            .landmarks
            .map(|l| l.points().map(|[x, y]| format!("{x:.0},{y:.0}")).join("  "));
        writeln!(
            out,
            "{:6} {:7.2}s  {:<27}  {:<27}  {}",
            f.index,
            f.time,
            corners(f.face_box),
            corners(seen),
            points.unwrap_or_default()
        )?;
    }
    writeln!(out, "(x1 y1 x2 y2 in pixels of the video)")
}

fn corners(face: Option<FaceBox>) -> String {
    match face {
        Some(b) => format!("{:6.1} {:6.1} {:6.1} {:6.1}", b.x1, b.y1, b.x2, b.y2),
        None => "none".to_owned(),
    }
}

fn windows(out: &mut dyn Write, timeline: &Timeline) -> Result<()> {
    let Some(first) = timeline.windows.first() else {
        return Ok(());
    };
    title(out, first)?;
    writeln!(
        out,
        "\n{:>17}  {:<24} {:<12} face seen in",
        "window", "expression", "smoothed"
    )?;
    for (w, point) in timeline.windows.iter().zip(&timeline.points) {
        let best = match &w.refusal {
            None => format!("{} ({:.1}%)", w.expression, 100.0 * w.confidence),
            Some(refusal) => format!("no answer: {}", refusal.name()),
        };
        let seen = w.seen.as_ref().map(|s| format!("{} of {}", s.frames, s.of));
        writeln!(
            out,
            "{:7.2}s {:7.2}s  {best:<24} {:<12} {}",
            w.start,
            w.end,
            point.expression,
            seen.unwrap_or_default()
        )?;
    }
    Ok(())
}
