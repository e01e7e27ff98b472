//! MTFormer's loss between tasks, against PyTorch in float64 (`fixtures/contrast/make.py`).

use mtcae_nn::ParamStore;
use mtcae_nn::candle_core::{Device, Result, Tensor, Var};
use mtcae_objective::{Contrast, Error};
use mtcae_testing::{Fixture, assert_close, devices, without_gradient};

/// About 80 roundings of f32 of a loss, ten times that of a gradient.
const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

#[test]
fn the_loss_between_tasks_equals_pytorchs_with_all_gradients() -> Result<()> {
    let fixture = Fixture::load("contrast/contrast.safetensors");
    for device in devices() {
        let store = ParamStore::new(0);
        for (name, tensor) in fixture.below("weights.") {
            store.set(&name, &tensor.to_device(&device)?)?;
        }
        let inputs = fixture.below("input.");
        let inputs: Vec<(String, Var)> = inputs
            .iter()
            .map(|(name, t)| {
                let var = Var::from_tensor(&t.to_device(&device)?)?;
                Ok((format!("input.{name}"), var))
            })
            .collect::<Result<_>>()?;
        let features: Vec<Tensor> = inputs.iter().map(|(_, v)| v.as_tensor().clone()).collect();
        let tasks = ["boxes", "points", "class"];
        let contrast = Contrast::new(6, 11, &tasks, &store.builder(&device)).expect("the mappings");
        let loss = contrast.forward(&features).expect("a loss");
        assert_close("loss", &loss.reshape(1)?, fixture.get("output"), FORWARD);
        let grads = loss.backward()?;
        let vars: Vec<(String, Var)> = store.vars().into_iter().chain(inputs).collect();
        assert_eq!(without_gradient(&vars, &grads), [""; 0]);
        for (name, var) in &vars {
            let grad = grads.get(var).expect("a gradient");
            assert_close(name, grad, fixture.get(&format!("grad.{name}")), GRADIENT);
        }
    }
    Ok(())
}

#[test]
fn a_clip_alone_is_like_itself_and_a_task_alone_like_nothing() -> Result<()> {
    let device = &Device::Cpu;
    let store = ParamStore::new(1);
    let vb = store.builder(device);
    let contrast = Contrast::new(3, 4, &["a", "b"], &vb).expect("the mappings");
    let clip = Tensor::arange(0f32, 6., device)?.reshape((1, 2, 3))?;
    let loss = contrast.forward(&[clip.clone(), clip.clone()]);
    assert_eq!(loss.expect("a loss").to_scalar::<f32>()?, 0.0);
    let fault = contrast.forward(&[clip]).expect_err("one of two");
    assert_eq!(
        fault.to_string(),
        "features must have the shape [2], one for each task, not [1]"
    );
    match Contrast::new(3, 4, &["a"], &vb) {
        Err(Error::Config { field, .. }) => assert_eq!(field, "contrastive"),
        other => panic!("{other:?}"),
    }
    Ok(())
}
