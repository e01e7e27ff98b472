//! Tables of frames.

mod common;

use common::{of, prediction, refused, timeline, window};
use mtcae_dfer::{Answer, Refusal};
use mtcae_formats::arrow::{frames, intervals};
use mtcae_formats::arrow_array::cast::AsArray;
use mtcae_formats::arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use mtcae_formats::arrow_array::{Array, RecordBatch};
use mtcae_formats::openface::openface;
use mtcae_formats::{arrow_array, frames_of};

fn integers(table: &RecordBatch, name: &str) -> Vec<i64> {
    let column = table.column_by_name(name).expect("the column");
    column.as_primitive::<Int64Type>().values().to_vec()
}

fn numbers(table: &RecordBatch, name: &str) -> Vec<Option<f32>> {
    let column = table.column_by_name(name).expect("the column");
    column.as_primitive::<Float32Type>().iter().collect()
}

fn words(table: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = table.column_by_name(name).expect("the column");
    let words = column.as_dictionary::<Int32Type>();
    let words = words
        .downcast_dict::<arrow_array::StringArray>()
        .expect("words");
    words
        .into_iter()
        .map(|word| word.map(str::to_owned))
        .collect()
}

#[test]
fn a_frame_of_several_windows_is_there_once_by_the_nearest_centre() {
    let windows = vec![window(0.0, 2.0, 0.9), window(1.0, 2.0, 0.1)];
    let results = timeline(2.0, 1.0, windows);
    let rows = frames_of(&results);
    let indices: Vec<u64> = rows.iter().map(|r| r.frame.index).collect();
    assert_eq!(indices, (0..75).step_by(5).collect::<Vec<u64>>());
    // Centres are 1 s and 2 s: the frame at 1.4 s is nearer to the first, that at 1.6 s to
    // the second.
    let said: Vec<_> = rows
        .iter()
        .map(|r| r.expression().expect("an answer"))
        .collect();
    let first = rows.iter().filter(|r| r.frame.time < 1.5).count();
    assert!(
        said[..first].iter().all(|e| *e == "happy") && said[first..].iter().all(|e| *e == "sad")
    );
    let table = frames(&[&results]).expect("a table");
    assert_eq!(integers(&table, "frame").len(), 15);
}

#[test]
fn a_frame_that_is_sampled_twice_is_there_once() {
    let still = prediction([0.0, 0.0], [0; 16].into_iter(), 25.0, 0.9);
    assert_eq!(frames_of(&of(Answer::Clip(vec![still]))).len(), 1);
}

#[test]
fn what_is_not_there_is_null_and_why_is_said() {
    let mut nobody = refused(
        prediction([0.0, 1.0], 0..2, 25.0, 0.9),
        Refusal::NoFace { of: 2 },
    );
    nobody.probabilities.clear();
    nobody.action_units.clear();
    for frame in &mut nobody.frames {
        (frame.face_box, frame.landmarks, frame.detected) = (None, None, None);
        frame.action_units.clear();
    }
    let somebody = of(Answer::Clip(vec![prediction([0.0, 1.0], 0..1, 25.0, 0.9)]));
    let nobody = of(Answer::Clip(vec![nobody]));
    let table = frames(&[&nobody, &somebody]).expect("a table");
    let happy = Some("happy".to_owned());
    assert_eq!(words(&table, "expression"), [None, None, happy]);
    let refusal = Some("no-face".to_owned());
    assert_eq!(words(&table, "refusal"), [refusal.clone(), refusal, None]);
    assert_eq!(numbers(&table, "p_happy"), [None, None, Some(0.9)]);
    assert_eq!(numbers(&table, "AU12"), [None, None, Some(0.5)]);
    assert_eq!(numbers(&table, "box_x1"), [None, None, Some(0.1)]);
    assert_eq!(
        numbers(&table, "detected_mouth_right_y"),
        [None, None, Some(9.0)]
    );
    assert_eq!(
        table.column_by_name("person").map(Array::null_count),
        Some(3)
    );
    let schema = table.schema();
    assert_eq!(schema.metadata()["provenance"], "[null,null]");
    assert!(
        !schema.metadata().contains_key("mtcae.file"),
        "it is about two"
    );
}

#[test]
fn a_table_of_intervals_has_seconds_to_the_millisecond() {
    let results = timeline(1.0, 1.0, vec![window(0.0, 1.0, 0.9), window(1.0, 1.0, 0.2)]);
    let table = intervals(&[&results]).expect("a table");
    let times = |name| {
        let column = table.column_by_name(name).expect("the column");
        column.as_primitive::<Float64Type>().values().to_vec()
    };
    assert_eq!(
        (times("start"), times("end")),
        (vec![0.0, 1.0], vec![1.0, 1.8])
    );
    assert_eq!(numbers(&table, "confidence"), [Some(0.9), Some(0.8)]);
}

#[test]
fn openface_counts_frames_from_one_and_strengths_to_five() {
    let mut second = prediction([0.0, 1.0], 3..4, 25.0, 0.9);
    second.person = Some(2);
    second.frames[0].detected = None;
    second.seen = Some(mtcae_dfer::Seen {
        frames: 0,
        of: 1,
        at: "source".to_owned(),
        min_face: 20.0,
    });
    let table = openface(&[&of(Answer::Clip(vec![second]))]).expect("a table");
    assert_eq!(integers(&table, "frame"), [4]);
    assert_eq!(numbers(&table, "AU01_r"), [Some(1.25)]);
    assert_eq!(numbers(&table, "AU12_r"), [Some(2.5)]);
    assert_eq!(numbers(&table, "x_1"), [Some(11.1)]);
    let column = |name| {
        let column = table.column_by_name(name).expect("the column");
        column.as_primitive::<Int32Type>().value(0)
    };
    assert_eq!((column("face_id"), column("success")), (1, 0));
}
