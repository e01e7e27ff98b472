//! The operations and their gradients on every device under test (the CPU, and the GPU
//! that MTCAE_TEST_DEVICE names) against the same in Candle's plain operations and f64.

use mtcae_kernels::area::Crop;
use mtcae_kernels::conv::{Conv, Shape};
use mtcae_nn::candle_core::{D, DType, Device, Result, Tensor, Var};
use mtcae_nn::{CrossAttention, ParamStore, ops};
use mtcae_testing::{assert_close, devices};

/// Numbers in [−1, 1) that differ by `seed`.
fn numbers(shape: &[usize], seed: u32) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f64> = (0..n as u32)
        .map(|i| {
            let bits = (i + seed * 7919).wrapping_mul(2_654_435_761);
            f64::from(bits >> 8) / f64::from(1 << 23) - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// Compares values and all gradients of an operation with those of its definition, on
/// inputs of these shapes, times `size`.
fn compare(
    what: &str,
    shapes: &[&[usize]],
    size: f64,
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
    definition: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let run = |device: &Device, dtype, f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let vars = (1..)
            .zip(shapes)
            .map(|(seed, shape)| {
                let values = (numbers(shape, seed)? * size)?.to_dtype(DType::F32)?;
                Var::from_tensor(&values.to_device(device)?.to_dtype(dtype)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let out = f(&inputs)?;
        let weights = numbers(out.dims(), 99)?.to_dtype(DType::F32)?;
        let weights = weights.to_device(device)?.to_dtype(dtype)?;
        let grads = (&out * weights)?.sum_all()?.backward()?;
        let mut results = vec![out];
        for var in &vars {
            results.push(grads.get(var).expect("every input has a gradient").clone());
        }
        results
            .iter()
            .map(|t| t.to_device(&Device::Cpu))
            .collect::<Result<Vec<_>>>()
    };
    let want = run(&Device::Cpu, DType::F64, &definition)?;
    for device in devices() {
        let got = run(&device, DType::F32, &operation)?;
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            // Sums of some hundred terms in f32, in another order.
            assert_close(&format!("{what}, {device:?}, {i}"), got, want, 1e-5);
        }
    }
    Ok(())
}

/// softmax(q·kᵀ/√d)·v per head for q (B, N, H·d) and k, v (B, M, H·d).
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let split = |t: &Tensor| -> Result<Tensor> {
        let (b, n, w) = t.dims3()?;
        t.reshape((b, n, heads, w / heads))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let scale = 1.0 / (q.dim(3)? as f64).sqrt();
    let logits = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * scale)?;
    let p = candle_nn::ops::softmax(&logits, D::Minus1)?;
    p.matmul(&v)?.transpose(1, 2)?.flatten_from(2)
}

#[test]
fn attention_over_packed_rows() -> Result<()> {
    for (heads, head_dim) in [(3, 7), (2, 64)] {
        let width = heads * head_dim;
        compare(
            "self attention",
            &[&[2, 67, 3 * width]],
            3.0,
            |x| ops::self_attention(&x[0], heads),
            |x| {
                let part = |i| x[0].narrow(2, i * width, width);
                attention(&part(0)?, &part(1)?, &part(2)?, heads)
            },
        )?;
    }
    for (heads, head_dim) in [(1, 176), (3, 20)] {
        let width = heads * head_dim;
        compare(
            "cross attention",
            &[&[2, 35, width], &[2, 50, 2 * width]],
            3.0,
            |x| ops::cross_attention(&x[0], &x[1], heads),
            |x| {
                let part = |i| x[1].narrow(2, i * width, width);
                attention(&x[0], &part(0)?, &part(1)?, heads)
            },
        )?;
    }
    Ok(())
}

#[test]
fn layer_norm_and_gelu() -> Result<()> {
    for width in [37, 64] {
        let norm = |x: &[Tensor]| {
            let centred = x[0].broadcast_sub(&x[0].mean_keepdim(D::Minus1)?)?;
            let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
            let hat = centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)?;
            hat.broadcast_mul(&x[1])?.broadcast_add(&x[2])
        };
        compare(
            "layer norm",
            &[&[3, 5, width], &[width], &[width]],
            1.0,
            |x| ops::layer_norm(&x[0], &x[1], &x[2], 1e-6),
            norm,
        )?;
        compare(
            "gelu",
            &[&[4, width]],
            4.0,
            |x| ops::gelu(&x[0]),
            |x| x[0].gelu_erf(),
        )?;
    }
    Ok(())
}

#[test]
fn linear_layers() -> Result<()> {
    for outputs in [12, 33] {
        compare(
            "linear",
            &[&[5, 70, 20], &[outputs, 20], &[outputs]],
            1.0,
            |x| ops::linear(&x[0], &x[1], Some(&x[2])),
            |x| {
                let product = x[0].flatten_to(1)?.matmul(&x[1].t()?)?;
                product.broadcast_add(&x[2])?.reshape((5, 70, outputs))
            },
        )?;
    }
    Ok(())
}

/// On a GPU nobody waits in between: that both threads use one stream is what orders them.
#[test]
fn what_one_thread_computes_another_reads() -> Result<()> {
    for device in devices() {
        let x = numbers(&[512, 512], 1)?.to_dtype(DType::F32)?;
        let x = x.to_device(&device)?;
        let work = |x: &Tensor| (0..20).try_fold(x.clone(), |y, _| ops::gelu(&y.matmul(x)?));
        let there = std::thread::scope(|scope| scope.spawn(|| work(&x)).join());
        let there = there.expect("no panic")?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(there, work(&x)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(())
}

#[test]
fn operations_of_nothing_give_nothing() -> Result<()> {
    // A GPU gives no memory of 0 bytes, so that nothing is the CPU's alone.
    let device = Device::Cpu;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &device);
    let x = Var::from_tensor(&zeros(&[0, 20])?)?;
    let (gamma, beta) = (Var::from_tensor(&zeros(&[20])?)?, zeros(&[20])?);
    let y = ops::layer_norm(x.as_tensor(), gamma.as_tensor(), &beta, 1e-6)?;
    let grads = ops::gelu(&y)?.sum_all()?.backward()?;
    assert_eq!(grads.get(&x).map(Tensor::dims), Some(&[0, 20][..]));
    let gradient = grads.get(&gamma).expect("a gradient").to_vec1::<f32>()?;
    assert_eq!(gradient, [0.0; 20]);
    let y = ops::linear(x.as_tensor(), &zeros(&[12, 20])?, Some(&zeros(&[12])?))?;
    assert_eq!(y.dims(), [0, 12]);
    let clips = Tensor::zeros((0, 4, 6, 9, 3), DType::U8, &device)?;
    let tubes = ops::tubes(&clips, &zeros(&[3, 256])?, 2, 3, DType::F32)?;
    assert_eq!(tubes.dims(), [0, 12, 54]);
    Ok(())
}

#[test]
fn cross_entropy_of_logits() -> Result<()> {
    for device in devices() {
        let q = numbers(&[5, 7], 50)?.abs()?;
        let targets = q.to_dtype(DType::F32)?.to_device(&device)?;
        // One device at a time: the targets are on it.
        let logits = Var::from_tensor(
            &(numbers(&[5, 7], 1)? * 30.0)?
                .to_dtype(DType::F32)?
                .to_device(&device)?,
        )?;
        let exact = Var::from_tensor(&logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)?;
        let log_softmax = candle_nn::ops::log_softmax(exact.as_tensor(), D::Minus1)?;
        let want = (log_softmax * &q)?.sum(1)?.neg()?;
        let got = ops::cross_entropy(logits.as_tensor(), &targets)?;
        let cpu = |t: &Tensor| t.to_device(&Device::Cpu);
        assert_close("losses", &cpu(&got)?, &want, 1e-6);
        let (got, want) = (got.sum_all()?.backward()?, want.sum_all()?.backward()?);
        let got = got.get(&logits).expect("a gradient");
        assert_close(
            "dlogits",
            &cpu(got)?,
            want.get(&exact).expect("a gradient"),
            1e-5,
        );
    }
    Ok(())
}

#[test]
fn tubes_are_those_of_the_embedding() -> Result<()> {
    for device in devices() {
        let (b, t, h, w) = (2, 4, 6, 9);
        let levels: Vec<u8> = (0..b * t * h * w * 3)
            .map(|i| (i * 37 % 251) as u8)
            .collect();
        let clips = Tensor::from_vec(levels, (b, t, h, w, 3), &device)?;
        let table: Vec<f32> = (0..768).map(|i| i as f32 / 7.0).collect();
        let table = Tensor::from_vec(table, (3, 256), &device)?;
        let got = ops::tubes(&clips, &table, 2, 3, DType::F32)?;
        // Channel c's level l becomes (256c + l)/7.
        let clips = clips.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let offset = Tensor::new(&[0f32, 256.0, 512.0], &Device::Cpu)?;
        let planes = (clips.broadcast_add(&offset)? / 7.0)?.permute((0, 1, 4, 2, 3))?;
        let want = planes
            .contiguous()?
            .reshape(&[b, 2, 2, 3, 2, 3, 3, 3][..])?
            .permute(&[0, 1, 4, 6, 3, 2, 5, 7][..])?
            .reshape((b, 12, 54))?;
        assert_close("tubes", &got.to_device(&Device::Cpu)?, &want, 1e-6);
        assert!(ops::tubes(&got, &table, 2, 3, DType::F32).is_err());
    }
    Ok(())
}

#[test]
fn convolutions_of_planes() -> Result<()> {
    let shape = Shape {
        height: 3,
        width: 2,
        inputs: 5,
        input_stride: 16,
        outputs: 20,
    };
    let list = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (x, weight) = (numbers(&[2, 6, 7, 16], 1)?, numbers(&[20, 5, 3, 2], 2)?);
    let (bias, slope) = (numbers(&[20], 3)?, numbers(&[20], 4)?);
    let planes = x.narrow(3, 0, 5)?.permute((0, 3, 1, 2))?.contiguous()?;
    let sums = planes.conv2d(&weight, 0, 1, 1, 1)?;
    let sums = sums.broadcast_add(&bias.reshape((1, 20, 1, 1))?)?;
    let want = (sums.relu()?
        + sums
            .minimum(0f64)?
            .broadcast_mul(&slope.reshape((1, 20, 1, 1))?)?)?;
    let conv = Conv::new(shape, &list(&weight)?, &list(&bias)?, Some(&list(&slope)?));
    for device in devices() {
        let parameters = Tensor::from_vec(conv.columns(), (shape.taps() + 2, 32), &device)?;
        let x = x.to_dtype(DType::F32)?.to_device(&device)?;
        let got = ops::conv_prelu(&x, &parameters, shape)?.to_device(&Device::Cpu)?;
        assert_eq!(got.dims(), [2, 4, 6, 32]);
        let got = got.permute((0, 3, 1, 2))?;
        assert_close("conv", &got.narrow(1, 0, 20)?, &want, 1e-6);
        assert_eq!(list(&got.narrow(1, 20, 12)?)?, [0.0; 2 * 12 * 24]);
        // Two rows are too few for three.
        assert!(ops::conv_prelu(&x.narrow(1, 0, 2)?, &parameters, shape).is_err());
    }
    Ok(())
}

#[test]
fn pictures_and_planes_that_do_not_fit_are_refused() -> Result<()> {
    let crop = |x, width| Crop {
        picture: 1,
        x,
        y: 0,
        width,
        height: 4,
    };
    for device in devices() {
        let pictures = Tensor::zeros((2, 4, 6, 3), DType::U8, &device)?;
        let out = ops::area_resample(&pictures, &[crop(2, 4), crop(0, 6)], (5, 3))?;
        assert_eq!(out.dims(), [2, 3, 5, 3]);
        assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [-127.5 / 128.0; 90]);
        for bad in [crop(3, 4), crop(6, 0), crop(usize::MAX, 2)] {
            assert!(
                ops::area_resample(&pictures, &[bad], (5, 3)).is_err(),
                "{bad:?}"
            );
        }
        assert!(ops::area_resample(&pictures, &[], (5, 3)).is_err());
        let planes = numbers(&[1, 3, 5, 16], 1)?.to_dtype(DType::F32)?;
        let planes = planes.to_device(&device)?;
        assert_eq!(ops::max_pool(&planes, 2)?.dims(), [1, 2, 3, 16]);
        assert!(ops::max_pool(&planes.narrow(3, 0, 8)?, 2).is_err());
        assert!(ops::max_pool(&planes, 1).is_err());
    }
    Ok(())
}

#[test]
fn layers_of_nothing_are_refused() -> Result<()> {
    // A GPU gives no memory of 0 bytes, so that nothing is the CPU's alone.
    let device = Device::Cpu;
    let x = Tensor::zeros((2, 3), DType::F32, &device)?;
    for shape in [(0, 3), (4, 0)] {
        let weight = Tensor::zeros(shape, DType::F32, &device)?;
        let said = ops::linear(&x, &weight, None).expect_err("nothing");
        assert!(said.to_string().contains("has no elements"), "{said}");
    }
    for (heads, head_dim) in [(0, 4), (2, 0)] {
        let vb = ParamStore::new(1).builder(&device);
        let said = CrossAttention::new(8, heads, head_dim, vb).expect_err("nothing");
        assert!(said.to_string().contains("at least 1"), "{said}");
    }
    Ok(())
}
