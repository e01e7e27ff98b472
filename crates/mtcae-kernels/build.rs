//! Feature `cuda`: compiles `cuda/*.cu` with nvcc. Without it this does nothing, so that a
//! default build never looks for CUDA.

#[cfg(feature = "cuda")]
#[path = "src/cuda/modules.rs"]
mod modules;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    {
        println!("cargo::rerun-if-changed=cuda");
        println!("cargo::rerun-if-changed=src/cuda/modules.rs");
    }
    #[cfg(feature = "cuda")]
    gpu::build();
}

/// Each module as (name, source, definitions).
#[cfg(feature = "cuda")]
fn all_modules() -> Vec<(String, &'static str, Vec<String>)> {
    use modules::{ATTENTION, ELEMENTS, HEADS, SOURCES};
    let mut all: Vec<_> = SOURCES
        .iter()
        .map(|name| ((*name).to_owned(), *name, Vec::new()))
        .collect();
    for (suffix, ty) in ELEMENTS {
        for head in HEADS {
            all.push((
                format!("{ATTENTION}_{suffix}_{head}"),
                ATTENTION,
                vec![
                    format!("TYPE={ty}"),
                    format!("SUFFIX={suffix}"),
                    format!("HEAD={head}"),
                ],
            ));
        }
    }
    all
}

/// Calls `f` with each, on as many threads as cargo allows.
#[cfg(feature = "cuda")]
fn in_parallel<T: Sync>(all: &[T], f: impl Fn(&T) + Sync) {
    let jobs = std::env::var("NUM_JOBS").map_or(1, |n| n.parse().unwrap_or(1));
    let queue = std::sync::Mutex::new(all.iter());
    let next = || queue.lock().expect("no thread has panicked").next();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(one) = next() {
                    f(one);
                }
            });
        }
    });
}

#[cfg(feature = "cuda")]
mod gpu {
    use std::fmt::Write;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// What each module holds: machine code for the generations that the models are made
    /// for, so that the driver has nothing to compile there, and PTX that it compiles on
    /// any other from 8.0 on, the oldest that have what the kernels use (bf16 products,
    /// cp.async).
    const GENERATIONS: [&str; 2] = [
        "arch=compute_80,code=[sm_80,compute_80]",
        "arch=compute_90,code=sm_90",
    ];

    pub fn build() {
        for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
        let nvcc = nvcc();
        let modules = super::all_modules();
        super::in_parallel(&modules, |(name, source, definitions)| {
            compile(
                &nvcc,
                &out.join(format!("{name}.fatbin")),
                source,
                definitions,
            );
        });
        let (major, minor) = release(&nvcc);
        let mut table = format!("pub(super) const RELEASE: (u32, u32) = ({major}, {minor});\n\n");
        table.push_str(
            "pub(super) fn binary(module: &str) -> Option<&'static [u8]> {\n    Some(match module {\n",
        );
        for (name, ..) in &modules {
            writeln!(
                table,
                "        {name:?} => include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.fatbin\")),"
            )
            .expect("a string takes all");
        }
        table.push_str("        _ => return None,\n    })\n}\n");
        std::fs::write(out.join("binaries.rs"), table).expect("OUT_DIR can be written");
    }

    /// `$NVCC`, that of `$CUDA_HOME` or `$CUDA_PATH`, or the one on the path.
    fn nvcc() -> PathBuf {
        if let Some(nvcc) = std::env::var_os("NVCC") {
            return nvcc.into();
        }
        ["CUDA_HOME", "CUDA_PATH"]
            .iter()
            .filter_map(std::env::var_os)
            .map(|home| Path::new(&home).join("bin/nvcc"))
            .find(|nvcc| nvcc.exists())
            .unwrap_or_else(|| "nvcc".into())
    }

    /// The CUDA that nvcc is of: `release 13.0` of what it says about itself.
    fn release(nvcc: &Path) -> (u32, u32) {
        let said = Command::new(nvcc).arg("--version").output();
        let said = said.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let numbers = said.as_deref().ok().and_then(|text| {
            let (_, rest) = text.split_once("release ")?;
            let (major, rest) = rest.split_once('.')?;
            let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        numbers.unwrap_or_else(|| panic!("{} --version names no release", nvcc.display()))
    }

    fn compile(nvcc: &Path, to: &Path, source: &str, definitions: &[String]) {
        let mut command = Command::new(nvcc);
        command
            .args(["--fatbin", "-O3", "-std=c++17", "-Icuda"])
            .args(GENERATIONS.iter().flat_map(|g| ["-gencode", g]))
            .args(definitions.iter().map(|d| format!("-D{d}")))
            .arg("-o")
            .arg(to)
            .arg(format!("cuda/{source}.cu"));
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("{command:?} ended with {status}"),
            Err(error) => panic!(
                "feature `cuda` needs CUDA's compiler: {}: {error}. Install the CUDA toolkit, or run \
                 scripts/cuda_toolkit.sh and set CUDA_HOME to the folder that it names",
                nvcc.display()
            ),
        }
    }
}
