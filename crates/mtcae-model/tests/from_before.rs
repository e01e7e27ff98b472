//! Checkpoints that the programs of commit e3dce91 wrote (`fixtures/e3dce91`): each
//! still loads and says what it said then.

use candle_core::Device;
use mtcae_model::decoder::Structure;
use mtcae_model::{Checkpoint, Precision};
use mtcae_nn::Pass;
use mtcae_testing::{Fixture, assert_close, fixtures};

/// Of the largest output. Where the set was made, the model gives the same bits and the
/// plan is off by 1.9e-7; a CPU with other vectors adds the products in another order.
const TOLERANCE: f64 = 1e-5;

const STRUCTURES: [&str; 6] = [
    "single-task",
    "separate-mlp",
    "separate-vit",
    "shared-mlp",
    "shared-vit",
    "cascade",
];

#[test]
fn checkpoints_of_all_structures_say_what_they_said() {
    let set = fixtures().join("e3dce91");
    let before = Fixture::open(&set.join("outputs.safetensors"));
    let tubes = before.get("tubes");
    for structure in STRUCTURES {
        let folder = set.join("checkpoints").join(structure);
        let checkpoint = Checkpoint::open(&folder).expect(structure);
        let model = checkpoint.model(&Device::Cpu).expect(structure);
        let found = model.config().decoder.structure;
        assert_eq!(found, structure.parse().expect("a structure"));
        let plan = checkpoint.engine(&Device::Cpu, Precision::F32);
        let plan = plan.expect(structure);
        let pass = || Pass::inference();
        for outputs in [model.run(tubes, &mut pass()), plan.run(tubes, &mut pass())] {
            let outputs = outputs.expect(structure);
            let heads = [
                ("face_box", outputs.boxes.as_ref()),
                ("landmarks", outputs.landmarks.as_ref()),
                ("expression", Some(&outputs.logits)),
            ];
            for (task, got) in heads {
                let Some(got) = got else {
                    assert_eq!(found, Structure::SingleTask, "no {task}");
                    continue;
                };
                let name = format!("{structure}.head.{task}");
                let want = before.get(&name);
                let got = got.reshape(want.dims()).expect("a head's shape");
                assert_close(&name, &got, want, TOLERANCE);
            }
        }
    }
}
