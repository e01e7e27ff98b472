//! Results that `infer` of commit e3dce91 wrote (`fixtures/e3dce91/results`): they are
//! results of now, with equal numbers.

use mtcae_dfer::{Answer, Prediction, Results, Timeline};
use serde_json::Value;

const SET: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/e3dce91/results"
);

fn read<T: serde::de::DeserializeOwned>(name: &str) -> (T, Value) {
    let text = std::fs::read(format!("{SET}/{name}")).expect(name);
    let before = serde_json::from_slice(&text).expect(name);
    (serde_json::from_slice(&text).expect(name), before)
}

/// All that `before` says, `now` says too; numbers as far as `f32` goes.
fn says(now: &Value, before: &Value) -> bool {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => before
            .iter()
            .all(|(key, v)| now.get(key).is_some_and(|n| says(n, v))),
        (Value::Array(now), Value::Array(before)) => {
            now.len() == before.len() && now.iter().zip(before).all(|(n, b)| says(n, b))
        }
        (Value::Number(now), Value::Number(before)) => {
            let number = |n: &serde_json::Number| n.as_f64().unwrap_or(f64::NAN);
            number(now) as f32 == number(before) as f32
        }
        _ => now == before,
    }
}

fn same<T: serde::Serialize>(now: &T, before: &Value) {
    let now = serde_json::to_value(now).expect("JSON");
    assert!(says(&now, before), "{now:#}\n{before:#}");
}

#[test]
fn results_say_what_they_said() {
    let (clip, before) = read::<Prediction>("01-01-03-01-01-01-01.json");
    assert_eq!((&clip.expression[..], clip.frames.len()), ("happy", 4));
    same(&clip, &before);

    let (windows, before) = read::<Timeline>("windows/01-01-03-01-01-01-01.json");
    assert_eq!(windows.windows.len(), windows.points.len());
    same(&windows, &before);

    let (people, before) = read::<Vec<Prediction>>("people/portrait.json");
    assert_eq!(people.len(), 1);
    assert_eq!(people[0].person, Some(1));
    assert!(people[0].frames.iter().all(|f| f.detected.is_some()));
    same(&people, &before);
}

/// Files from before results said where they come from.
#[test]
fn files_of_results_are_read_as_they_were() {
    let results = |name: &str| {
        let read = Results::read(format!("{SET}/{name}")).expect(name);
        assert_eq!(read.provenance, None);
        read.answer
    };
    let Answer::Clip(clip) = results("01-01-03-01-01-01-01.json") else {
        panic!("windows");
    };
    assert_eq!(clip[0].expression, "happy");
    let Answer::Windows(windows) = results("windows/01-01-03-01-01-01-01.json") else {
        panic!("a clip");
    };
    assert_eq!(windows.len(), 1);
    let Answer::Clip(people) = results("people/portrait.json") else {
        panic!("windows");
    };
    assert_eq!(people[0].person, Some(1));
}
