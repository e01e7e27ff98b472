use super::super::adamw::{Parameter, Table};
use super::{Machine, On, Operand, normals};
use crate::adamw::Moments;
use crate::cuda::Element;

/// Lengths on both sides of a block's part.
const LENGTHS: [usize; 4] = [1, 4095, 4097, 9000];

/// What a run gives.
const NAMES: [&str; 5] = ["parameters", "m", "v", "sum of squares", "moving average"];

/// AdamW over several parameters at once, each with its own decay and rate; the
/// moving average; the sums of squares.
pub(super) fn adamw<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    let draw = |on: &On<'_, M>, seed: u64| -> Result<Vec<Operand<M::Memory>>, String> {
        LENGTHS
            .iter()
            .map(|&n| on.operand(&normals(n, seed + n as u64)))
            .collect()
    };
    let gradients = draw(on, 2)?;
    let moments = Moments {
        beta1: 0.9,
        beta2: 0.99,
        rest1: 0.1,
        rest2: 0.01,
        scale: 0.5,
    };
    let (root, eps) = (0.3, 1e-8);
    let (keep, rate) = (
        |i: usize| 1.0 - 0.01 * i as f32,
        |i: usize| 1e-2 * (i + 1) as f32,
    );
    let n: usize = LENGTHS.iter().sum();

    // Everything is changed in place, so each run has memory of its own.
    let run = |on: &On<'_, M>| -> Result<[Vec<f64>; 5], String> {
        let [parameters, m, v] = [draw(on, 11)?, draw(on, 12)?, draw(on, 13)?];
        let v: Vec<_> = v
            .iter()
            .map(|v| on.operand(&v.values.iter().map(|x| x.abs()).collect::<Vec<_>>()))
            .collect::<Result<_, _>>()?;
        let table = Table::new((0..LENGTHS.len()).map(|i| Parameter {
            parameter: on.at(&parameters[i]),
            gradient: on.at(&gradients[i]),
            m: on.at(&m[i]),
            v: on.at(&v[i]),
            length: LENGTHS[i],
            keep: keep(i),
            rate: rate(i),
        }))
        .map_err(|e| e.to_string())?;
        let at = on.machine.upload(&table.bytes())?;
        let sums = on.machine.upload(&vec![0xff; table.blocks() * 8])?;
        let (at, sums_at) = (on.machine.pointer(&at), on.machine.pointer(&sums));
        for launch in [
            table.step(at, &moments, root, eps),
            table.sums_of_squares(sums_at, at),
        ]
        .into_iter()
        .flatten()
        {
            // SAFETY: the table names operands of this machine with their lengths.
            unsafe { on.machine.run(&launch) }?;
        }
        let read = |all: &[Operand<M::Memory>]| -> Result<Vec<f64>, String> {
            let mut values = Vec::with_capacity(n);
            for operand in all {
                values.extend(super::decode(
                    Element::F32,
                    &on.machine.download(&operand.memory)?,
                ));
            }
            Ok(values)
        };
        let stepped = [read(&parameters)?, read(&m)?, read(&v)?];
        if let Some(launch) = table.blend(at) {
            // SAFETY: as above.
            unsafe { on.machine.run(&launch) }?;
        }
        let squares = on
            .machine
            .download(&sums)?
            .chunks_exact(8)
            .map(|b| f64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .sum();
        let [p, m, v] = stepped;
        Ok([p, m, v, vec![squares], read(&parameters)?])
    };
    let (got, again) = (run(on)?, run(on)?);
    for ((name, first), second) in NAMES.iter().zip(&got).zip(&again) {
        let mut pairs = first.iter().zip(second);
        if let Some(at) = pairs.position(|(a, b)| a.to_bits() != b.to_bits()) {
            let (a, b) = (first[at], second[at]);
            let reason = format!("two runs differ: {name}, first {at}: {a:e} and {b:e}");
            on.fault("adamw", &reason);
        }
    }

    let mut want = [const { Vec::new() }; 5];
    let mut squares = 0.0;
    for (i, &length) in LENGTHS.iter().enumerate() {
        let round = |v: Vec<f64>| v.into_iter().map(|x| f64::from(x as f32));
        let [p, m, v] = [11, 12, 13].map(|seed| round(normals(length, seed + length as u64)));
        for (((p, m), v), g) in p.zip(m).zip(v).zip(&gradients[i].values) {
            let by = |x: f32| f64::from(x);
            let scaled = g * by(moments.scale);
            let m = m + by(moments.rest1) * (scaled - m);
            let v = by(moments.beta2) * v.abs() + by(moments.rest2) * scaled * scaled;
            let p = p * by(keep(i)) - by(rate(i)) * m / (v.sqrt() / by(root) + by(eps));
            squares += g * g;
            for (want, value) in want.iter_mut().zip([p, m, v]) {
                want.push(value);
            }
            want[4].push(by(keep(i)) * p + by(rate(i)) * g);
        }
    }
    want[3].push(squares);
    for ((name, got), want) in NAMES.iter().zip(&got).zip(&want) {
        on.compare(&format!("adamw: {name}"), got, want, [1e-6; 3]);
    }
    Ok(())
}
