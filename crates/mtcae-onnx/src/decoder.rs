//! The decoder's structures and heads, as `multi_task.rs`, `stage.rs` and `head.rs` of
//! `mtcae-decoder` compute them; and what the heads' outputs are called.

use mtcae_decoder::{Config as DecoderConfig, Input, KvOrder, Stage};
use mtcae_model::{ACTION_UNITS, Config, EXPRESSION, FACE_BOX, LANDMARKS};
use mtcae_nn::Pool;

use crate::graph::{Graph, Value};

/// Features F (B, N, D) of `tokens` tokens → the outputs of the heads.
pub(crate) fn decoder(g: &mut Graph, config: &Config, f: Value) {
    let decoder = &config.decoder;
    let tokens = config.encoder.output().tokens;
    let f = match decoder.kv_order {
        KvOrder::DenseNorm => f,
        KvOrder::NormDense => g.layer_norm("decoder.input_norm", f, decoder.eps),
    };
    let mut ys: Vec<Value> = Vec::new();
    for stage in decoder.stages() {
        let before = match stage.input {
            Input::Features => None,
            Input::Stage(place) => ys.get(place).copied(),
        };
        let y = match stage.decoder {
            None => f,
            Some(_) => {
                let y = stage_decoder(g, decoder, &stage, before, f);
                let name = format!("Y{}", stage.number);
                g.intermediate(&name, y, vec![tokens, decoder.width]);
                y
            }
        };
        if let Some(task) = stage.task.and_then(|t| decoder.tasks.get(t)) {
            let row = head(g, decoder, &stage, &task.name, y);
            answer(g, config, &task.name, row);
        }
        ys.push(y);
    }
}

/// Algorithm 1: X = Norm(Dense(F)) once, then layers that attend to it; or the MLP's layers
/// alone.
fn stage_decoder(
    g: &mut Graph,
    config: &DecoderConfig,
    stage: &Stage,
    before: Option<Value>,
    f: Value,
) -> Value {
    let at = format!("decoder.{}", stage.name);
    let dense = stage
        .has_dense()
        .then(|| g.linear(&format!("{at}.dense"), f));
    let x = match (stage.attends(), dense, config.kv_order) {
        (true, Some(dense), KvOrder::DenseNorm) => {
            Some(g.layer_norm(&format!("{at}.norm"), dense, config.eps))
        }
        (true, dense, _) => dense,
        (false, ..) => None,
    };
    let mut y = before.or(dense).unwrap_or(f);
    for l in 0..config.depth {
        let distinct = if config.share_layers { 0 } else { l };
        let at = format!("{at}.layers.{distinct}");
        if let Some(x) = x {
            let normed = g.layer_norm(&format!("{at}.norm1"), y, config.eps);
            let attn = format!("{at}.attn");
            let branch = g.cross_attention(&attn, normed, x, config.heads, config.head_dim);
            y = g.add(&at, y, branch);
        }
        y = g.mlp_residual(&at, y, config.eps);
    }
    y
}

/// FC(Pool(Norm(Y))), or of F itself FC(Norm(Pool(F))): (B, outputs).
fn head(g: &mut Graph, config: &DecoderConfig, stage: &Stage, task: &str, y: Value) -> Value {
    let at = format!("decoder.heads.{task}");
    let norm = format!("{at}.norm");
    let row = match stage.decoder {
        Some(_) => {
            let normed = g.layer_norm(&norm, y, config.eps);
            g.mean_token(&at, normed)
        }
        None => {
            let pooled = match config.pool {
                Pool::Mean => g.mean_token(&at, y),
                Pool::First => g.first_token(&at, y),
            };
            match config.pooled_norm {
                Some(eps) => g.layer_norm(&norm, pooled, eps),
                None => pooled,
            }
        }
    };
    g.linear(&format!("{at}.fc"), row)
}

/// A head's output under its name and in its shape.
fn answer(g: &mut Graph, config: &Config, task: &str, row: Value) {
    let frames = config.encoder.input().frames;
    let (name, shape) = match task {
        FACE_BOX => ("boxes", vec![frames, 4]),
        LANDMARKS => ("landmarks", vec![frames, 5, 2]),
        ACTION_UNITS => ("action_units", vec![frames, config.action_units.len()]),
        // A config's tasks are these and the expression.
        _ => {
            debug_assert_eq!(task, EXPRESSION);
            return expression(g, config, row);
        }
    };
    let in_full: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    let value = g.reshape(name, row, &[&[-1], &in_full[..]].concat());
    g.output(name, value, shape);
}

/// Raw logits, and probabilities of them as the config's calibration says.
fn expression(g: &mut Graph, config: &Config, logits: Value) {
    const AT: &str = "probabilities";
    let classes = config.classes.len();
    g.output("logits", logits, vec![classes]);
    let mut scaled = logits;
    if let Some(calibration) = &config.calibration {
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
        let scale = narrow(&calibration.scale);
        let scale = g.floats("calibration.scale", vec![classes], scale);
        scaled = g.node(AT, "Mul", &[scaled, scale], Vec::new());
        if let Some(bias) = &calibration.bias {
            let bias = g.floats("calibration.bias", vec![classes], narrow(bias));
            scaled = g.add(AT, scaled, bias);
        }
    }
    let probabilities = g.softmax(AT, scaled);
    g.output("probabilities", probabilities, vec![classes]);
}
