//! Runs the sections one after the other, within the time that there is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::child::{self, Ended};
use crate::libraries::{self, Found, Python};
use crate::report::Report;
use crate::sections::{Model, Program, Section};

/// What was asked for.
pub struct Setting {
    pub begin: Instant,
    pub within: Duration,
    pub times: f64,
    pub programs: PathBuf,
    pub model: Model,
    pub asked: Vec<String>,
    pub out: PathBuf,
}

/// How a section went.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Ok,
    Failed(String),
    /// For want of time, or of what another section leaves.
    NotRun(String),
    /// For want of something that this machine has not.
    Lacking(String),
}

/// Seconds that are kept for ending a process and for the summary.
const RESERVE: f64 = 5.0;

/// What `mtcae-gpu kernels` says of a launch that does not end: it is named, and would hang
/// again.
const HANGS: &str = "it has not come back after";

/// Runs a plan; whether `mtcae-gpu` starts and nothing failed. What else is missing on the
/// machine is no failure.
pub fn conduct(setting: &Setting, plan: Vec<Section>, report: Report, stop: &AtomicBool) -> bool {
    let scratch = std::env::temp_dir().join(format!("mtcae-gpu-check-{}", std::process::id()));
    let mut conductor = Conductor {
        setting,
        report,
        stop,
        machine: Machine::look(setting),
        scratch,
        lost: None,
        torch: None,
        done: Vec::new(),
    };
    conductor.head(&plan);
    for section in &plan {
        let begin = Instant::now();
        let verdict = conductor.section(section);
        conductor.verdict(section, &verdict);
        let seconds = begin.elapsed().as_secs_f64();
        conductor
            .done
            .push((section.name.clone(), verdict, seconds));
    }
    conductor.summary();
    // Weights of a gigabyte; the system clears what cannot be removed.
    let _ = std::fs::remove_dir_all(&conductor.scratch);
    let failed = |(_, verdict, _): &(String, Verdict, f64)| matches!(verdict, Verdict::Failed(_));
    conductor.machine.libraries.is_ok() && !conductor.done.iter().any(failed)
}

/// What there is on this machine.
struct Machine {
    /// The libraries of `mtcae-gpu`, or why it does not start.
    libraries: Result<Found, String>,
    python: Option<Python>,
    sanitizer: Option<PathBuf>,
}

impl Machine {
    fn look(setting: &Setting) -> Self {
        let pythons = libraries::pythons();
        let program = setting.programs.join("mtcae-gpu");
        let found = libraries::find(&program, &libraries::places(&pythons));
        Self {
            libraries: found.and_then(|found| match found.missing[..] {
                [] => Ok(found),
                _ => Err(libraries::advice(&found.missing)),
            }),
            python: pythons.into_iter().find(|python| python.torch),
            sanitizer: sanitizer(),
        }
    }
}

/// compute-sanitizer, on the path or in a toolkit.
fn sanitizer() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        folders.extend(std::env::var_os(name).map(|home| PathBuf::from(home).join("bin")));
    }
    folders.push(PathBuf::from("/usr/local/cuda/bin"));
    folders.push(PathBuf::from("/usr/local/cuda-13.0/bin"));
    folders
        .into_iter()
        .map(|folder| folder.join("compute-sanitizer"))
        .find(|program| program.is_file())
}

struct Conductor<'a> {
    setting: &'a Setting,
    report: Report,
    stop: &'a AtomicBool,
    machine: Machine,
    /// Weights and traces, which are too large to bring back.
    scratch: PathBuf,
    /// Why `mtcae-gpu` cannot use the GPU.
    lost: Option<String>,
    /// Why PyTorch cannot, or its versions, once it was asked.
    torch: Option<Result<String, String>>,
    done: Vec<(String, Verdict, f64)>,
}

impl Conductor<'_> {
    /// What machine this is, and what is going to be done.
    fn head(&mut self, plan: &[Section]) {
        let fields = "name,driver_version,compute_cap,memory.total,power.limit,clocks.max.sm";
        let gpu = child::answer(
            Command::new("nvidia-smi")
                .args(["--format=csv,noheader", &format!("--query-gpu={fields}")]),
        );
        let date = child::answer(Command::new("date").args(["-u", "+%F %H:%M UTC"]));
        let commit = std::fs::read_to_string(self.setting.programs.join("commit"));
        let named = gpu.as_deref().and_then(|gpu| gpu.split(',').next());
        self.report
            .heading(1, named.unwrap_or("No GPU that nvidia-smi knows"));
        let unknown = || "unknown".to_owned();
        self.report.line(&format!(
            "{}; commit {}; {} s for {}",
            date.unwrap_or_else(unknown),
            commit.map_or_else(|_| unknown(), |c| c.trim().to_owned()),
            self.setting.within.as_secs(),
            self.setting.asked.join(" "),
        ));
        match gpu {
            Some(gpu) => {
                for line in gpu.lines() {
                    self.report.line(&format!("{fields}: {line}"));
                }
            }
            None => self.report.line(
                "nvidia-smi does not answer: there is no NVIDIA driver here, or no GPU; a GPU of compute capability 8.0 \
                 or newer with driver 580 or newer is needed",
            ),
        }
        let found = match &self.machine.libraries {
            Ok(found) if found.folders.is_empty() => "libraries: the loader's own".to_owned(),
            Ok(found) => format!("libraries: {}", found.path()),
            Err(missing) => format!("FAILED mtcae-gpu cannot start: {missing}"),
        };
        self.report.line(&found);
        let python = match &self.machine.python {
            Some(python) => format!("PyTorch: that of {}", python.program.display()),
            None => "PyTorch: no python3 here has it; nothing is compared with it".to_owned(),
        };
        self.report.line(&python);
        let names: Vec<&str> = plan.iter().map(|section| section.name.as_str()).collect();
        self.report
            .line(&format!("in this order: {}", names.join(", ")));
    }

    /// Seconds until a part of all time is over.
    fn left(&self, until: f64) -> f64 {
        let all = self.setting.within.as_secs_f64() - RESERVE;
        all * until - self.setting.begin.elapsed().as_secs_f64()
    }

    fn section(&mut self, section: &Section) -> Verdict {
        if self.stop.load(Ordering::Relaxed) {
            return Verdict::NotRun("it was stopped before".to_owned());
        }
        if section.after_model && !self.made().join("trace.safetensors").exists() {
            return Verdict::NotRun("the section model left no trace to compare".to_owned());
        }
        if let Some(why) = self.lacks(section) {
            return Verdict::Lacking(why);
        }
        let whole = section.limit * self.setting.times;
        let limit = whole.min(self.left(section.until));
        if limit < section.least {
            let (left, least) = (limit.max(0.0), section.least);
            return Verdict::NotRun(format!(
                "no time: {left:.0} s are left for it, it needs {least:.0}"
            ));
        }
        self.report
            .heading(2, &format!("{} ({})", section.title, section.name));
        let mut said = Vec::new();
        let ended = self.run(section, limit, false, &mut said);
        if section.name == "start" && ended != Ended::Well {
            let reason = said
                .iter()
                .find_map(|line| line.strip_prefix("error: device "));
            self.lost = reason.map(|reason| format!("the GPU cannot be used: {reason}"));
        }
        let refused = |line: &String| line.contains("Device not supported");
        if matches!(section.program, Program::Sanitizer(_)) && said.iter().any(refused) {
            return Verdict::Lacking("compute-sanitizer refuses this machine".to_owned());
        }
        let verdict = judged(&ended, limit, limit >= whole);
        match verdict {
            Verdict::Failed(_) if said.iter().any(|line| line.contains(HANGS)) => {
                Verdict::Failed("a kernel hangs".to_owned())
            }
            Verdict::Failed(reason) if section.again && ended != Ended::Late => {
                Verdict::Failed(self.again(section, &reason))
            }
            other => other,
        }
    }

    /// A section once more, with each launch waited for, and what that shows.
    fn again(&mut self, section: &Section, reason: &str) -> String {
        let whole = section.limit * self.setting.times;
        let limit = whole.min(self.left(section.until));
        if limit < section.least || self.stop.load(Ordering::Relaxed) {
            return format!("{reason}; no time to run it again");
        }
        self.report.line("");
        self.report.line("Again, with CUDA_LAUNCH_BLOCKING=1:");
        self.report.line("");
        let ended = self.run(section, limit, true, &mut Vec::new());
        match judged(&ended, limit, limit >= whole) {
            Verdict::Ok => format!("{reason}; with CUDA_LAUNCH_BLOCKING=1 it passes"),
            Verdict::Failed(_) => format!("{reason}; with CUDA_LAUNCH_BLOCKING=1 too"),
            Verdict::NotRun(why) | Verdict::Lacking(why) => format!("{reason}; again: {why}"),
        }
    }

    /// What a section needs and is not there.
    fn lacks(&mut self, section: &Section) -> Option<String> {
        let own = match &self.machine.libraries {
            Ok(_) => self.lost.clone(),
            Err(_) => Some("mtcae-gpu cannot start, for want of what is named above".to_owned()),
        };
        match section.program {
            Program::Own => own,
            Program::Sanitizer(_) if self.machine.sanitizer.is_none() => {
                Some("there is no compute-sanitizer here; a CUDA toolkit brings it".to_owned())
            }
            Program::Sanitizer(_) => own,
            Program::PyTorch => self.torch().err(),
        }
    }

    /// The versions of PyTorch, or why it cannot use the GPU; asked once, since importing
    /// takes seconds.
    fn torch(&mut self) -> Result<String, String> {
        const ASK: &str = "
import torch, safetensors
assert torch.cuda.is_available(), f'PyTorch {torch.__version__} finds no GPU that it can use'
print('PyTorch', torch.__version__, 'of CUDA', torch.version.cuda)
";
        if let Some(known) = &self.torch {
            return known.clone();
        }
        let answer = match &self.machine.python {
            None => {
                Err("no python3 here has PyTorch (pip install torch safetensors numpy)".to_owned())
            }
            Some(python) => {
                let mut command = Command::new(&python.program);
                let mut said = Vec::new();
                let limit = Duration::from_secs_f64(self.left(1.0).clamp(0.0, 60.0));
                let ended = child::run(command.args(["-c", ASK]), limit, self.stop, &mut |line| {
                    said.push(line.to_owned());
                });
                let last = said.pop().unwrap_or_default();
                match ended {
                    Ended::Well => Ok(last),
                    Ended::Late => {
                        Err("importing PyTorch takes longer than there is time".to_owned())
                    }
                    _ => Err(format!("PyTorch cannot be used: {last}")),
                }
            }
        };
        if let Ok(versions) = &answer {
            self.report.line(versions);
        }
        self.torch = Some(answer.clone());
        answer
    }

    /// Where the section `model` leaves weights and trace.
    fn made(&self) -> PathBuf {
        self.scratch.join("model")
    }

    fn run(
        &mut self,
        section: &Section,
        limit: f64,
        blocking: bool,
        said: &mut Vec<String>,
    ) -> Ended {
        let mut command = match self.command(section, limit) {
            Ok(command) => command,
            Err(why) => return Ended::Never(why),
        };
        if blocking {
            command.env("CUDA_LAUNCH_BLOCKING", "1");
        }
        let report = &mut self.report;
        let limit = Duration::from_secs_f64(limit.clamp(0.0, 86_400.0));
        child::run(&mut command, limit, self.stop, &mut |line| {
            report.quote(line);
            said.push(line.to_owned());
        })
    }

    fn command(&self, section: &Section, limit: f64) -> Result<Command, String> {
        let own = self.setting.programs.join("mtcae-gpu");
        let mut command = match section.program {
            Program::Own => Command::new(own),
            Program::Sanitizer(tool) => {
                let sanitizer = self
                    .machine
                    .sanitizer
                    .as_ref()
                    .ok_or("no compute-sanitizer")?;
                let mut command = Command::new(sanitizer);
                command
                    .args(["--tool", tool, "--error-exitcode", "1"])
                    .arg(own);
                command
            }
            Program::PyTorch => {
                let python = self.machine.python.as_ref().ok_or("no PyTorch")?;
                let mut command = Command::new(&python.program);
                command.arg(self.setting.programs.join("gpu_pytorch.py"));
                command.env("PYTHONUNBUFFERED", "1");
                command
            }
        };
        if section.program != Program::PyTorch
            && let Ok(found) = &self.machine.libraries
        {
            command.env("LD_LIBRARY_PATH", found.path());
        }
        // An error is one line here.
        command.env("RUST_BACKTRACE", "0");
        let model = self.made();
        for argument in &section.arguments {
            match argument.as_str() {
                "{model}" => command.arg(&model),
                // Without them whoever needs weights draws its own.
                "{weights}" if !model.join("config.json").exists() => &mut command,
                "{weights}" => command.arg("--weights").arg(&model),
                "{config}" => command.arg(self.config()?),
                "{within}" => command.arg(format!("{:.0}", (limit - section.row).max(limit / 2.0))),
                other => command.arg(other),
            };
        }
        Ok(command)
    }

    /// The model's config for PyTorch: packed beside the programs, or as `mtcae-gpu` says.
    fn config(&self) -> Result<PathBuf, String> {
        let size = &self.setting.model.size;
        let packed = self.setting.programs.join(format!("config-{size}.json"));
        if packed.exists() {
            return Ok(packed);
        }
        let path = self.scratch.join("config.json");
        let found = self.machine.libraries.as_ref().map_err(Clone::clone)?;
        let output = Command::new(self.setting.programs.join("mtcae-gpu"))
            .args(["config", "--size", size])
            .env("LD_LIBRARY_PATH", found.path())
            .output()
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(said
                .lines()
                .last()
                .unwrap_or("mtcae-gpu config fails")
                .to_owned());
        }
        let written = std::fs::create_dir_all(&self.scratch)
            .and_then(|()| std::fs::write(&path, output.stdout));
        written.map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
        Ok(path)
    }

    fn verdict(&mut self, section: &Section, verdict: &Verdict) {
        let name = &section.name;
        let line = match verdict {
            Verdict::Ok => format!("done: {name}"),
            Verdict::Failed(reason) => format!("FAILED: {name}: {reason}"),
            Verdict::NotRun(reason) | Verdict::Lacking(reason) => {
                format!("not done: {name}: {reason}")
            }
        };
        self.report.line("");
        self.report.line(&line);
    }

    fn summary(&mut self) {
        self.report.heading(2, "Summary");
        self.report.line("| section | verdict | seconds |");
        self.report.line("|---|---|---|");
        for (name, verdict, seconds) in &self.done {
            let verdict = match verdict {
                Verdict::Ok => "ok".to_owned(),
                Verdict::Failed(reason) => format!("FAILED: {reason}"),
                Verdict::NotRun(reason) | Verdict::Lacking(reason) => format!("not done: {reason}"),
            };
            let verdict = verdict.replace('|', "/");
            self.report
                .line(&format!("| {name} | {verdict} | {seconds:.1} |"));
        }
        let again: Vec<&str> = self
            .done
            .iter()
            .filter(|(name, verdict, _)| {
                matches!(verdict, Verdict::Failed(_) | Verdict::NotRun(_)) && name != "start"
            })
            .map(|(name, ..)| name.as_str())
            .collect();
        self.report.line("");
        if self.setting.asked.iter().any(|asked| asked == "first") {
            self.report.line(&format!(
                "The second call: `{}`",
                call(&self.setting.out, &again, &["second"])
            ));
        } else if !again.is_empty() {
            self.report.line(&format!(
                "What failed or was not done, again: `{}`",
                call(&self.setting.out, &again, &[])
            ));
        }
        let path = self.report.path().display().to_string();
        self.report.line(&format!(
            "{:.0} s in all; the report is {path}",
            self.setting.begin.elapsed().as_secs_f64()
        ));
    }
}

fn call(out: &Path, names: &[&str], groups: &[&str]) -> String {
    let words: Vec<&str> = names.iter().chain(groups).copied().collect();
    format!("gpu_check.sh run {} {}", out.display(), words.join(" "))
}

/// `whole`: whether it was given all the time that such a section has.
fn judged(ended: &Ended, limit: f64, whole: bool) -> Verdict {
    match ended {
        Ended::Well => Verdict::Ok,
        Ended::Badly(reason) | Ended::Never(reason) => Verdict::Failed(reason.clone()),
        Ended::Late if whole => Verdict::Failed(format!("not done after {limit:.0} s, and ended")),
        Ended::Late => Verdict::NotRun(format!("cut short: only {limit:.0} s were left for it")),
        Ended::Stopped => Verdict::NotRun("it was stopped midway".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    /// A folder where `mtcae-gpu` is a script.
    fn programs(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mtcae-gpu");
        std::fs::write(&path, format!("#!/bin/sh\n{script}")).expect("written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a program");
        std::fs::write(folder.path().join("config-large.json"), "{}").expect("written");
        folder
    }

    /// The report of some sections, and whether nothing failed.
    fn report(script: &str, asked: &[&str], within: u64) -> (String, bool) {
        let programs = programs(&format!(
            "[ -z \"$LD_TRACE_LOADED_OBJECTS\" ] || exit 0\n{script}"
        ));
        let model = Model {
            size: "large".to_owned(),
            device: "cuda:0".to_owned(),
        };
        let asked: Vec<String> = asked.iter().map(|&s| s.to_owned()).collect();
        let plan = crate::sections::plan(&asked, &model).expect("they exist");
        let out = programs.path().join("out");
        let setting = Setting {
            begin: Instant::now(),
            within: Duration::from_secs(within),
            times: 1.0,
            programs: programs.path().to_owned(),
            model,
            asked,
            out: out.clone(),
        };
        let report = Report::open(&out);
        let good = conduct(&setting, plan, report, &AtomicBool::new(false));
        let text = std::fs::read_to_string(out.join("report.md")).expect("a report");
        (text, good)
    }

    #[test]
    fn a_family_that_fails_runs_again_launch_by_launch_and_the_rest_follows() {
        let script = "echo \"$1 $5 ${CUDA_LAUNCH_BLOCKING:-0}\"; [ \"$1\" != kernels ] || [ \"$5\" != gelu ]";
        let asked = ["kernels-bf16-gelu", "kernels-bf16-tubes"];
        let (text, good) = report(script, &asked, 500);
        assert!(!good);
        assert!(
            text.contains("kernels gelu 0") && text.contains("kernels gelu 1"),
            "{text}"
        );
        let verdict =
            "FAILED: kernels-bf16-gelu: it ended with code 1; with CUDA_LAUNCH_BLOCKING=1 too";
        assert!(text.contains(verdict), "{text}");
        assert!(text.contains("| kernels-bf16-tubes | ok |"), "{text}");
        assert!(text.contains("again: `gpu_check.sh run") && text.contains("kernels-bf16-gelu`"));
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_said_once_and_nothing_is_tried_on_it() {
        let script = "echo 'error: device cuda:0: the driver is of CUDA 12.4' >&2; exit 1";
        let (text, good) = report(script, &["speed", "micro"], 500);
        assert!(!good);
        let not = "not done: micro: the GPU cannot be used: cuda:0: the driver is of CUDA 12.4";
        assert!(text.contains(not), "{text}");
        assert_eq!(text.matches("## ").count(), 2, "{text}");
    }

    #[test]
    fn what_there_is_no_time_for_is_named_and_asked_for_in_the_second_call() {
        let (text, good) = report("echo well", &["first"], 22);
        assert!(good, "{text}");
        assert!(text.contains("| start | ok |"), "{text}");
        let late = "not done: kernels-f32-attention-others: no time:";
        assert!(text.contains(late), "{text}");
        let second = text
            .lines()
            .find(|l| l.starts_with("The second call"))
            .expect("said");
        assert!(
            second.contains("kernels-f32-attention-others") && second.contains(" second`"),
            "{second}"
        );
        // What was done is not done again.
        assert!(
            text.contains("| micro | ok |") && !second.contains("micro"),
            "{text}"
        );
    }
}
