//! Where the libraries of CUDA lie that a program needs and the loader does not find.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What was found for a program.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Folders for `LD_LIBRARY_PATH`, those that were there first.
    pub folders: Vec<PathBuf>,
    /// Libraries that are in none of the places.
    pub missing: Vec<String>,
}

impl Found {
    /// As the loader takes it.
    pub fn path(&self) -> String {
        let folders: Vec<String> = self
            .folders
            .iter()
            .map(|f| f.display().to_string())
            .collect();
        folders.join(":")
    }
}

/// One Python, and what lies beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Python {
    pub program: PathBuf,
    /// Whether it has PyTorch.
    pub torch: bool,
    /// Folders of libraries that its packages bring.
    pub libraries: Vec<PathBuf>,
}

/// The Pythons of this machine: that which `MTCAE_PYTHON` names, or else that of a virtual
/// environment first and those that have PyTorch before the others.
pub fn pythons() -> Vec<Python> {
    if let Some(named) = std::env::var_os("MTCAE_PYTHON") {
        return python(Path::new(&named)).into_iter().collect();
    }
    let in_environment = |name: &str| {
        let folder = std::env::var_os(name)?;
        Some(PathBuf::from(folder).join("bin/python3"))
    };
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(in_environment)
        .collect();
    programs.extend(std::env::split_paths(&on_path).map(|folder| folder.join("python3")));
    programs.extend(
        ["/opt/conda", "/opt/venv", "/usr/local", "/usr"]
            .map(|folder| PathBuf::from(folder).join("bin/python3")),
    );
    let mut seen = Vec::new();
    programs.retain(|program| {
        let new = program.exists() && !seen.contains(program);
        if new {
            seen.push(program.clone());
        }
        new
    });
    let mut pythons: Vec<Python> = programs.iter().filter_map(|p| python(p)).collect();
    pythons.sort_by_key(|python| !python.torch);
    pythons
}

/// Where PyTorch and all paths of the namespace package `nvidia` are; nothing is imported,
/// which would take seconds.
const WHERE: &str = r"# where PyTorch is
import importlib.util, os
def find(name):
    try:
        return importlib.util.find_spec(name)
    except Exception:
        return None
torch, nvidia = find('torch'), find('nvidia')
if torch and torch.origin:
    print('torch', os.path.dirname(torch.origin))
for path in (nvidia and nvidia.submodule_search_locations) or []:
    print('nvidia', path)
";

fn python(program: &Path) -> Option<Python> {
    let output = Command::new(program).args(["-c", WHERE]).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut python = Python {
        program: program.to_owned(),
        torch: false,
        libraries: Vec::new(),
    };
    for line in said.lines() {
        if let Some(path) = line.strip_prefix("nvidia ") {
            python.libraries.extend(below(Path::new(path), "lib"));
        } else if let Some(path) = line.strip_prefix("torch ") {
            python.torch = true;
            python.libraries.push(Path::new(path).join("lib"));
        }
    }
    Some(python)
}

/// FOLDER/*/NAME, sorted backwards: the newer of two versions first.
fn below(folder: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join(name)))
        .filter(|path| path.is_dir())
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// The places where libraries may be, the likelier first: what `MTCAE_CUDA_LIB` names,
/// those of Python's packages, of toolkits, of the driver.
pub fn places(pythons: &[Python]) -> Vec<PathBuf> {
    let given = std::env::var_os("MTCAE_CUDA_LIB").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&given)
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    places.extend(pythons.iter().flat_map(|p| p.libraries.iter().cloned()));
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        let home = std::env::var_os(name).map(PathBuf::from);
        places.extend(home.iter().flat_map(|h| [h.join("lib64"), h.join("lib")]));
    }
    let toolkits = below(Path::new("/usr/local"), "lib64");
    places.extend(
        toolkits
            .into_iter()
            .filter(|f| f.to_string_lossy().contains("/cuda")),
    );
    places.extend(cached());
    places.extend(
        [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib64",
            "/usr/lib",
            "/usr/local/nvidia/lib64",
            "/usr/local/nvidia/lib",
            "/usr/lib/x86_64-linux-gnu/nvidia/current",
            "/usr/lib/wsl/lib",
        ]
        .map(PathBuf::from),
    );
    // A stand-in for linking says that there is no GPU, whatever there is.
    places.retain(|folder| !folder.ends_with("stubs"));
    places
}

/// The folders that `ldconfig` knows.
fn cached() -> Vec<PathBuf> {
    let said = ["/sbin/ldconfig", "ldconfig"]
        .iter()
        .find_map(|program| Command::new(program).arg("-p").output().ok())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let mut folders: Vec<PathBuf> = said
        .lines()
        .filter(|line| line.contains("libcuda.so") || line.contains("libcublas"))
        .filter_map(|line| {
            Path::new(line.split("=> ").nth(1)?)
                .parent()
                .map(Path::to_owned)
        })
        .collect();
    folders.dedup();
    folders
}

/// Finds what a program needs, and what those libraries need.
///
/// # Errors
/// When the program cannot be started at all.
pub fn find(program: &Path, places: &[PathBuf]) -> Result<Found, String> {
    find_by(places, |path| missing(program, path))
}

/// As [`find`], where `missing` says what is not found in the folders of a path.
fn find_by(
    places: &[PathBuf],
    missing: impl Fn(&str) -> Result<Vec<String>, String>,
) -> Result<Found, String> {
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut found = Found {
        folders: std::env::split_paths(&before)
            .filter(|f| !f.as_os_str().is_empty())
            .collect(),
        missing: Vec::new(),
    };
    loop {
        found.missing = missing(&found.path())?;
        let holds = |place: &&PathBuf, name: &str| {
            !found.folders.contains(place) && place.join(name).exists()
        };
        let next = found
            .missing
            .iter()
            .find_map(|name| places.iter().find(|place| holds(place, name)));
        match next {
            Some(place) => found.folders.push(place.clone()),
            None => return Ok(found),
        }
    }
}

/// The libraries that the loader does not find, as it says itself (what `ldd` asks for).
fn missing(program: &Path, path: &str) -> Result<Vec<String>, String> {
    let output = Command::new(program)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_LIBRARY_PATH", path)
        .output()
        .map_err(|e| format!("{} does not start: {e}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut missing: Vec<String> = said
        .lines()
        .filter_map(|line| Some(line.trim().split_once(" => not found")?.0.to_owned()))
        .collect();
    missing.dedup();
    Ok(missing)
}

/// What brings a library.
pub fn advice(missing: &[String]) -> String {
    let driver = missing.iter().any(|name| name.starts_with("libcuda.so"));
    let others = missing.iter().any(|name| !name.starts_with("libcuda.so"));
    let mut advice = format!("not to be found: {}", missing.join(", "));
    if driver {
        advice += "; libcuda.so.1 comes with NVIDIA's driver, 580 or newer, which does not seem to be installed";
    }
    if others {
        advice += "; CUDA 13's toolkit or PyTorch's cu13 wheels bring the libraries, and MTCAE_CUDA_LIB=FOLDER names where they are";
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        folder
    }

    #[test]
    fn libraries_are_found_in_the_first_place_that_has_them() {
        let here = folder_with(&[
            "cu12/libcublas.so.12",
            "cu13/libcublas.so.13",
            "driver/libcuda.so.1",
        ]);
        let at = |name: &str| here.path().join(name);
        let missing = |path: &str| {
            let folders: Vec<PathBuf> = std::env::split_paths(path).collect();
            let all = ["libcuda.so.1", "libcublas.so.13"];
            let missing = all
                .iter()
                .filter(|name| folders.iter().all(|f| !f.join(name).exists()));
            Ok(missing.map(|&name| name.to_owned()).collect())
        };
        let places = [at("nowhere"), at("cu12"), at("cu13"), at("driver")];
        let found = find_by(&places, missing).expect("it starts");
        assert!(found.missing.is_empty(), "{found:?}");
        assert!(
            found.folders.ends_with(&[at("driver"), at("cu13")]),
            "{found:?}"
        );
        let found = find_by(&places[..3], missing).expect("it starts");
        assert_eq!(found.missing, ["libcuda.so.1"]);
        let advice = advice(&found.missing);
        assert!(
            advice.contains("580") && !advice.contains("MTCAE_CUDA_LIB"),
            "{advice}"
        );
        let none = find(Path::new("/nowhere/program"), &places).expect_err("not there");
        assert!(none.contains("/nowhere/program does not start"), "{none}");
    }

    #[test]
    fn all_paths_of_the_nvidia_package_are_looked_at() {
        let one = folder_with(&["nvidia/cu13/lib/libcublas.so.13"]);
        let two = folder_with(&["nvidia/curand/lib/libcurand.so.10", "torch/__init__.py"]);
        let both = std::env::join_paths([one.path(), two.path()]).expect("paths");
        let python = ["/usr/bin/python3", "/usr/local/bin/python3"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        let Some(python) = python else {
            return; // no Python here, and nothing to look at
        };
        let output = Command::new(python)
            .args(["-c", WHERE])
            .env("PYTHONPATH", both)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        for folder in [one.path(), two.path()] {
            let line = format!("nvidia {}", folder.join("nvidia").display());
            assert!(said.lines().any(|l| l == line), "{said}");
        }
        assert!(said.contains(&format!("torch {}", two.path().join("torch").display())));
        let found = below(&one.path().join("nvidia"), "lib");
        assert_eq!(found, [one.path().join("nvidia/cu13/lib")]);
    }
}
