//! How the cost of the cascade grows: `scaling PICTURE.png [ROUNDS]` prints, and
//! draws, the processor time of its forward over clips, depth and tokens, each
//! doubled three times, in relation to the first. All sizes run in turns; the least
//! of the rounds counts.

#![allow(clippy::print_stdout)]

use mtcae_benches::operations::numbers;
use mtcae_benches::processor_time;
use mtcae_decoder::candle_core::Device;
use mtcae_decoder::nn::ParamStore;
use mtcae_decoder::nn::plan::{Arena, Precision, format};
use mtcae_decoder::{Config, InferencePlan, Task};
use mtcae_viz::{Curve, Panel, curves, save_png};

const FEATURES: usize = 1024;
const TIMES: [usize; 4] = [1, 2, 4, 8];

type Fault = Box<dyn std::error::Error>;

/// Clips, depth and tokens by how many times a case is the smallest.
type Size = fn(usize) -> [usize; 3];

/// One size of the cascade.
struct Case {
    clips: usize,
    features: Vec<f32>,
    plan: InferencePlan,
    seconds: Vec<f64>,
}

impl Case {
    fn new([clips, depth, tokens]: [usize; 3]) -> Result<Self, Fault> {
        let outputs = [("face_box", 64), ("landmarks", 160), ("expression", 7)];
        let tasks = outputs.map(|(name, n)| Task::new(name, n)).to_vec();
        let config = Config {
            depth,
            ..Config::cascade(FEATURES, tasks)
        };
        let store = ParamStore::new(0);
        let plan = InferencePlan::new(
            &config,
            format(Precision::F32)?,
            store.builder(&Device::Cpu),
        )?;
        Ok(Self {
            clips,
            features: numbers(tokens * FEATURES),
            plan,
            seconds: Vec::new(),
        })
    }

    fn run(&mut self, arena: &mut Arena) -> Result<(), Fault> {
        let before = processor_time();
        for _ in 0..self.clips {
            self.plan.forward(&self.features, arena)?;
        }
        self.seconds.push(processor_time() - before);
        Ok(())
    }

    /// The least of all rounds: what other work takes of a core only adds.
    fn least(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let picture = args.first().ok_or("scaling PICTURE.png [ROUNDS]")?;
    let rounds: usize = args.get(1).map_or(Ok(5), |n| n.parse())?;
    if rounds == 0 {
        return Err("at least one round".into());
    }
    let sizes: [(&str, Size); 3] = [
        ("clips", |n| [n, 5, 1568]),
        ("depth", |n| [1, n, 1568]),
        ("tokens", |n| [1, 5, 392 * n]),
    ];
    let mut rows = Vec::new();
    for (name, size) in sizes {
        let cases: Result<Vec<Case>, Fault> = TIMES.map(size).into_iter().map(Case::new).collect();
        rows.push((name, cases?));
    }
    let mut arena = Arena::default();
    for round in 0..=rounds {
        for case in rows.iter_mut().flat_map(|(_, cases)| cases) {
            case.run(&mut arena)?;
            if round == 0 {
                case.seconds.clear(); // memory is touched for the first time
            }
        }
    }
    let mut lines = vec![Curve {
        name: "in proportion".to_owned(),
        points: TIMES.map(|n| (n as f64, n as f64)).to_vec(),
    }];
    println!("| what grows | ×1, seconds | ×2 | ×4 | ×8 |");
    println!("|---|---|---|---|---|");
    for (name, cases) in &rows {
        let seconds: Vec<f64> = cases.iter().map(Case::least).collect();
        let times: Vec<f64> = seconds.iter().map(|s| s / seconds[0]).collect();
        let cells: Vec<String> = times[1..].iter().map(|t| format!("{t:.2}")).collect();
        println!("| {name} | {:.3} | {} |", seconds[0], cells.join(" | "));
        lines.push(Curve {
            name: (*name).to_owned(),
            points: TIMES.iter().map(|&n| n as f64).zip(times).collect(),
        });
    }
    let panel = Panel {
        title: "Processor time of the cascade, times that of the smallest size".to_owned(),
        curves: lines,
    };
    save_png(
        picture,
        &curves(&[panel], "times the smallest size", 900, 480)?,
    )?;
    Ok(())
}
