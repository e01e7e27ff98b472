//! Layers against PyTorch: what they give, and the gradient of every parameter and input.
//!
//! The reference (`fixtures/layers/make.py`) computes in float64, so all of the deviation is
//! ours: 1e-5 of the maximum is about 80 roundings of f32.

use mtcae_nn::candle_core::{DType, Device, Module, Result, Tensor, Var};
use mtcae_nn::{
    CrossWindowAttention, EncoderLayer, Lstm, ParamStore, Pass, VarBuilder, WindowAttention,
    WindowGrid, roi_warp,
};
use mtcae_testing::{Fixture, assert_close, devices, without_gradient};

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

/// Sizes of a fixture's config.
struct Sizes(serde_json::Value);

impl Sizes {
    fn number(&self, name: &str) -> usize {
        self.0[name].as_u64().expect("a number") as usize
    }

    fn sides(&self, name: &str) -> [usize; 3] {
        std::array::from_fn(|i| self.0[name][i].as_u64().expect("a side") as usize)
    }

    fn grid(&self) -> Result<WindowGrid> {
        WindowGrid::new(
            self.sides("grid"),
            self.sides("window"),
            self.sides("shift"),
        )
    }
}

/// Compares what `run` gives of the fixture's inputs, in the order of their names.
fn compare(
    name: &str,
    run: impl Fn(&Sizes, VarBuilder<'_>, &[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    let fixture = Fixture::load(&format!("layers/{name}.safetensors"));
    let sizes = Sizes(fixture.config());
    for device in devices() {
        let store = ParamStore::new(0);
        for (name, tensor) in fixture.below("weights.") {
            store.set(&name, &tensor.to_device(&device)?)?;
        }
        let mut vars = store.vars();
        let inputs = fixture.below("input.");
        let inputs: Vec<(String, Var)> = inputs
            .iter()
            .map(|(name, t)| Ok((name.clone(), Var::from_tensor(&t.to_device(&device)?)?)))
            .collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = inputs.iter().map(|(_, v)| v.as_tensor().clone()).collect();
        let outputs = run(&sizes, store.builder(&device), &tensors)?;
        let known = store.vars().len();
        assert_eq!(known, vars.len(), "{name}: parameters that PyTorch has not");
        let mut loss: Option<Tensor> = None;
        for (i, output) in outputs.iter().enumerate() {
            let output = output.to_device(&Device::Cpu)?;
            assert_close(name, &output, fixture.get(&format!("output.{i}")), FORWARD);
            let part = (output * fixture.get(&format!("upstream.{i}")))?.sum_all()?;
            loss = Some(match loss {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        let grads = loss.expect("an output").backward()?;
        vars.extend(inputs.into_iter().map(|(n, v)| (format!("input.{n}"), v)));
        assert_eq!(without_gradient(&vars, &grads), [""; 0], "{name}");
        for (of, var) in &vars {
            let grad = grads
                .get(var)
                .expect("a gradient")
                .to_device(&Device::Cpu)?;
            let want = fixture.get(&format!("grad.{of}"));
            assert_close(&format!("{name}: {of}"), &grad, want, GRADIENT);
        }
    }
    Ok(())
}

#[test]
fn lstm_layers_equal_pytorchs() -> Result<()> {
    for (name, both) in [("lstm", false), ("lstm-both-directions", true)] {
        compare(name, |sizes, vb, inputs| {
            let [inputs_, hidden, layers] = ["inputs", "hidden", "layers"].map(|n| sizes.number(n));
            let lstm = Lstm::new(inputs_, hidden, layers, both, vb)?;
            Ok(vec![lstm.forward(&inputs[0])?])
        })?;
    }
    Ok(())
}

#[test]
fn each_direction_of_an_lstm_ends_where_it_ends() -> Result<()> {
    let store = ParamStore::new(2);
    let lstm = Lstm::new(3, 4, 1, true, store.builder(&Device::Cpu))?;
    let states = Tensor::arange(0f32, 48., &Device::Cpu)?.reshape((2, 3, 8))?;
    let want = [
        [16., 17., 18., 19., 4., 5., 6., 7.],
        [40., 41., 42., 43., 28., 29., 30., 31.],
    ];
    assert_eq!(lstm.last(&states)?.to_vec2::<f32>()?, want);
    assert!(Lstm::new(3, 0, 1, true, store.builder(&Device::Cpu)).is_err());
    Ok(())
}

#[test]
fn the_encoder_layer_equals_pytorchs() -> Result<()> {
    compare("encoder-layer", |sizes, vb, inputs| {
        let [width, heads, hidden] = ["width", "heads", "hidden"].map(|n| sizes.number(n));
        let layer = EncoderLayer::new(width, heads, hidden, 1e-5, 0.0, vb)?;
        Ok(vec![layer.forward(&inputs[0], &mut Pass::inference())?])
    })?;
    // A rate at which nothing is dropped goes the way of those that do.
    compare("encoder-layer", |sizes, vb, inputs| {
        let [width, heads, hidden] = ["width", "heads", "hidden"].map(|n| sizes.number(n));
        let layer = EncoderLayer::new(width, heads, hidden, 1e-5, 1e-12, vb)?;
        Ok(vec![layer.forward(&inputs[0], &mut Pass::training(1))?])
    })
}

#[test]
fn attention_in_shifted_windows_equals_pytorchs() -> Result<()> {
    for name in ["window-plane", "window-volume"] {
        compare(name, |sizes, vb, inputs| {
            let [width, heads] = ["width", "heads"].map(|n| sizes.number(n));
            let attention = WindowAttention::new(&sizes.grid()?, width, heads, vb)?;
            Ok(vec![attention.forward(&inputs[0])?])
        })?;
    }
    Ok(())
}

#[test]
fn attention_across_sequences_equals_pytorchs() -> Result<()> {
    compare("window-cross", |sizes, vb, inputs| {
        let [width, heads] = ["width", "heads"].map(|n| sizes.number(n));
        let attention = CrossWindowAttention::new(&sizes.grid()?, width, heads, vb)?;
        attention.forward(inputs, 1)
    })
}

#[test]
fn warped_regions_equal_pytorchs() -> Result<()> {
    compare("roi-warp", |sizes, _, inputs| {
        // Boxes, then maps.
        Ok(vec![roi_warp(
            &inputs[1],
            &inputs[0],
            sizes.number("side"),
            None,
        )?])
    })
}

/// PyTorch's derivative of κ could be as wrong as ours: by differences, in f32 and so far
/// from the kinks at whole numbers that no sample crosses one.
#[test]
fn the_gradient_of_a_region_is_that_of_differences() -> Result<()> {
    let cpu = &Device::Cpu;
    let maps = Tensor::arange(0f32, 2. * 5. * 6. * 2., cpu)?
        .affine(0.7, 0.3)?
        .sin()?;
    let maps = maps.reshape((2, 5, 6, 2))?;
    let boxes = [[1.13f32, 0.71, 3.37, 2.93], [0.3, 2.2, 1.9, 1.3]];
    let weights = Tensor::arange(0f32, 2. * 16. * 2., cpu)?
        .cos()?
        .reshape((2, 4, 4, 2))?;
    let value = |boxes: &Tensor| -> Result<Tensor> {
        (roi_warp(&maps, boxes, 4, None)? * &weights)?.sum_all()
    };
    let var = Var::from_tensor(&Tensor::new(&boxes, cpu)?)?;
    let grads = value(&var)?.backward()?;
    let grad = grads.get(&var).expect("a gradient").to_vec2::<f32>()?;
    let h = 0.004f32;
    for m in 0..2 {
        for i in 0..4 {
            let at = |by: f32| -> Result<f32> {
                let mut moved = boxes;
                moved[m][i] += by;
                value(&Tensor::new(&moved, cpu)?)?.to_scalar()
            };
            // Linear between kinks: differences err by rounding alone.
            let numeric = (at(h)? - at(-h)?) / (2.0 * h);
            let off = (numeric - grad[m][i]).abs();
            assert!(off < 2e-3, "box {m}, {i}: {numeric} and {}", grad[m][i]);
        }
    }
    // Bounded, each number by itself.
    let limited = (roi_warp(&maps, &var, 4, Some(0.5))? * &weights)?.sum_all()?;
    let bounded = limited.backward()?;
    let bounded = bounded.get(&var).expect("a gradient").to_vec2::<f32>()?;
    for (bounded, grad) in bounded.iter().flatten().zip(grad.iter().flatten()) {
        assert_eq!(*bounded, grad.clamp(-0.5, 0.5));
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let said = WindowGrid::new([8, 10, 10], [8, 7, 7], [0, 3, 3]).expect_err("7 of 10");
    assert!(
        said.to_string().starts_with(
            "windows of [8, 7, 7] tokens, shifted by [0, 3, 3], do not divide a grid of \
             [8, 10, 10]"
        ),
        "{said}"
    );
    assert!(WindowGrid::new([8, 14, 14], [8, 7, 7], [0, 7, 3]).is_err());
    assert_eq!(WindowGrid::half([8, 14, 14], [8, 7, 7]), [0, 3, 3]);
    let grid = WindowGrid::new([1, 2, 4], [1, 2, 2], [0, 0, 1])?;
    let attention = WindowAttention::new(&grid, 6, 2, ParamStore::new(0).builder(&Device::Cpu))?;
    let x = Tensor::zeros((1, 9, 6), DType::F32, &Device::Cpu)?;
    assert!(attention.forward(&x).is_err());
    Ok(())
}
