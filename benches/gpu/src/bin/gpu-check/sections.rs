//! What is checked and measured: each section as data.

/// The model, and where it runs.
#[derive(Clone, Debug)]
pub struct Model {
    pub size: String,
    pub device: String,
}

/// Whose process a section is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Program {
    /// `mtcae-gpu`.
    Own,
    /// `gpu_pytorch.py`.
    PyTorch,
    /// `mtcae-gpu` under a tool of compute-sanitizer.
    Sanitizer(&'static str),
}

/// A process of its own.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub title: String,
    pub program: Program,
    /// In them `{model}` is the folder of weights and trace, `{weights}` the option that
    /// names it, `{config}` the model's config, `{within}` the section's seconds.
    pub arguments: Vec<String>,
    /// Seconds after which it is ended.
    pub limit: f64,
    /// With fewer it is not begun.
    pub least: f64,
    /// Seconds that its last row, or what else it begins in `{within}`, may take.
    pub row: f64,
    /// The part of all time by which it must be over, so that what comes behind has some.
    pub until: f64,
    /// Whether it runs again, launch by launch, where it fails.
    pub again: bool,
    /// Whether it needs what the section `model` leaves.
    pub after_model: bool,
}

/// Families of kernels that are checked in every type, and in f32 alone, as
/// `mtcae-gpu kernels --family` takes them; attention apart, by its heads.
const FAMILIES: [&str; 5] = ["tubes", "layer_norm", "gelu", "residual", "cross_entropy"];
const F32_FAMILIES: [&str; 4] = ["adamw", "conv", "max_pool", "area"];

/// The heads of the models, and all others that attention is compiled for.
const HEADS: &str = "64,176";
const OTHER_HEADS: &str = "32,80,128,256";

/// The precisions and batches of the measurements.
const FIRST_BATCHES: &str = "8,16,1";
const SECOND_BATCHES: &str = "8,1";

/// What must come behind the kernels, in the first call, has the rest of its time.
const KERNELS_UNTIL: f64 = 0.5;
const CHECKS_UNTIL: f64 = 0.65;

impl Section {
    fn new(name: &str, title: &str, program: Program, limit: f64, arguments: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            program,
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            limit,
            least: (limit / 4.0).min(20.0),
            row: 12.0,
            until: 1.0,
            again: false,
            after_model: false,
        }
    }

    fn until(self, until: f64) -> Self {
        Self { until, ..self }
    }

    /// Of rows that are compiled first.
    fn compiled(self, row: f64) -> Self {
        Self {
            row,
            least: row,
            ..self
        }
    }
}

/// The first section of every call.
fn start(model: &Model) -> Section {
    let (size, device) = (&model.size, &model.device);
    let arguments = format!("start --size {size} --device {device}");
    let title = "Start: GPU, libraries, what each kernel takes";
    Section::new("start", title, Program::Own, 60.0, &arguments)
}

/// One process per family, those of the models' heads first.
fn kernels(ty: &str, model: &Model) -> Vec<Section> {
    let small = if model.size == "tiny" {
        " --small --patience 3"
    } else {
        ""
    };
    let section = |name: &str, title: &str, limit, which: &str| Section {
        again: true,
        ..Section::new(
            &format!("kernels-{ty}-{name}"),
            &format!("Kernels in {ty}: {title}"),
            Program::Own,
            limit,
            &format!(
                "kernels --type {ty} --family {which}{small} --device {}",
                model.device
            ),
        )
    };
    let attention = |name, heads| {
        let title = format!("attention, heads {}", heads_in_words(heads));
        section(name, &title, 60.0, &format!("attention --head {heads}"))
    };
    let mut all = vec![attention("attention", HEADS)];
    let more: &[&str] = if ty == "f32" { &F32_FAMILIES } else { &[] };
    for family in FAMILIES.iter().chain(more) {
        all.push(section(family, family, 40.0, family));
    }
    all.push(attention("attention-others", OTHER_HEADS));
    all
}

fn heads_in_words(heads: &str) -> String {
    heads.replace(',', ", ")
}

fn bench(name: &str, precisions: &str, batches: &str, limit: f64, model: &Model) -> Section {
    let (size, device) = (&model.size, &model.device);
    let (seconds, batches) = match size.as_str() {
        "tiny" => (0.05, "1"),
        _ => (2.0, batches),
    };
    Section::new(
        name,
        &format!("Speed in {}", heads_in_words(precisions)),
        Program::Own,
        limit,
        &format!(
            "bench --size {size} --device {device} {{weights}} --precision {precisions} --batch {batches} \
             --seconds {seconds} --within {{within}}"
        ),
    )
}

fn pytorch(name: &str, how: &str, precisions: &str, batches: &str, limit: f64) -> Section {
    Section::new(
        name,
        &format!("Speed of PyTorch in {}, {how}", heads_in_words(precisions)),
        Program::PyTorch,
        limit,
        &format!(
            "bench {{config}} {how} --precision {precisions} --batch {batches} --within {{within}}"
        ),
    )
}

/// Sections of the first call: what is most telling first.
fn first(model: &Model) -> Vec<Section> {
    let (size, device) = (&model.size, &model.device);
    let mut all = vec![start(model)];
    for ty in ["bf16", "f32"] {
        let kernels = kernels(ty, model).into_iter();
        all.extend(kernels.map(|section| section.until(KERNELS_UNTIL)));
    }
    let cut_down = if size == "tiny" { "tiny" } else { "small" };
    let training = format!("training --size {cut_down} --device {device}");
    let title = "Gradients and steps against the CPU";
    all.push(Section::new("training", title, Program::Own, 90.0, &training).until(CHECKS_UNTIL));
    all.push(
        Section::new(
            "model",
            "Model against the CPU",
            Program::Own,
            120.0,
            &format!("model {{model}} --size {size} --device {device}"),
        )
        .until(CHECKS_UNTIL),
    );
    all.push(Section {
        after_model: true,
        ..Section::new(
            "compare",
            "Model against PyTorch",
            Program::PyTorch,
            60.0,
            "compare {model}",
        )
        .until(CHECKS_UNTIL + 0.05)
    });
    all.push(bench("speed", "bf16", FIRST_BATCHES, 90.0, model));
    // cuBLASLt beside cuBLAS: whether it is right, and whether it is faster.
    let training = format!("{training} --epilogues");
    let title = "Gradients and steps against the CPU, products with epilogues";
    all.push(Section::new(
        "training-epilogues",
        title,
        Program::Own,
        60.0,
        &training,
    ));
    let mut speed = bench("speed-epilogues", "bf16", "8", 40.0, model);
    speed.title.push_str(", products with epilogues");
    let more = ["--what", "inference,training", "--epilogues"];
    speed.arguments.extend(more.map(str::to_owned));
    all.push(speed);
    all.push(Section::new(
        "micro",
        "Each kernel and product by itself",
        Program::Own,
        40.0,
        &format!(
            "micro --size {size} --device {device} --batch {} --within {{within}}",
            if size == "tiny" { 1 } else { 8 }
        ),
    ));
    all.push(pytorch("eager", "eager", "bf16", FIRST_BATCHES, 80.0));
    all.push(pytorch("blocks", "blocks", "bf16", FIRST_BATCHES, 150.0).compiled(40.0));
    all.push(pytorch("whole", "whole", "bf16", "8,1,16", 300.0).compiled(60.0));
    all
}

/// Sections of the second call, behind what failed in the first.
fn second(model: &Model) -> Vec<Section> {
    let mut all = vec![start(model)];
    all.extend(kernels("f16", model));
    all.push(bench("speed-f32", "tf32,f32", SECOND_BATCHES, 90.0, model));
    all.push(pytorch(
        "eager-f32",
        "eager",
        "tf32,f32",
        SECOND_BATCHES,
        90.0,
    ));
    all.extend(sanitized(model));
    all.push(pytorch("whole-f32", "whole", "tf32", SECOND_BATCHES, 200.0).compiled(60.0));
    all
}

/// Small problems under compute-sanitizer, a few families at a time: everything is some
/// hundred times slower there. The filter is the program's own, which launches nothing
/// else; the tool's goes by names that it may not know of code from memory, and then
/// checks nothing without a word.
fn sanitized(model: &Model) -> Vec<Section> {
    let section = |tool: &'static str, name: &str, which: &str| {
        Section::new(
            &format!("{tool}-{name}"),
            &format!("compute-sanitizer {tool}: {}", name.replace('-', " ")),
            Program::Sanitizer(tool),
            90.0,
            &format!(
                "kernels --small --patience 80 {which} --device {}",
                model.device
            ),
        )
    };
    let mut all = Vec::new();
    for tool in ["memcheck", "racecheck"] {
        let attention = format!("--type bf16 --family attention --head {HEADS}");
        all.push(section(tool, "attention", &attention));
        let others = format!("--type bf16 --family {}", FAMILIES.join(","));
        all.push(section(tool, "others", &others));
        let of_f32 = format!("--type f32 --family {}", F32_FAMILIES.join(","));
        all.push(section(tool, "f32", &of_f32));
    }
    all
}

/// The sections asked for, each once and `start` before all.
///
/// # Errors
/// Names what is none, and what there is.
pub fn plan(asked: &[String], model: &Model) -> Result<Vec<Section>, String> {
    let mut plan = order(asked, model)?;
    if model.size == "tiny" {
        plan.iter_mut().for_each(|section| section.least = 1.0);
    }
    Ok(plan)
}

fn order(asked: &[String], model: &Model) -> Result<Vec<Section>, String> {
    let (first, second) = (first(model), second(model));
    let mut plan = vec![start(model)];
    for name in asked {
        let named: Vec<Section> = match name.as_str() {
            "first" => first.clone(),
            "second" => second.clone(),
            _ => {
                let mut all = first.iter().chain(&second);
                let one = all.find(|section| &section.name == name).ok_or_else(|| {
                    format!(
                        "there is no section {name}; there is first, second, {}",
                        names()
                    )
                })?;
                // Whoever names it alone gives it all the time.
                vec![one.clone().until(1.0)]
            }
        };
        for section in named {
            if plan.iter().all(|other| other.name != section.name) {
                plan.push(section);
            }
        }
    }
    // What it leaves is in a folder of this call alone.
    if let Some(at) = plan.iter().position(|section| section.after_model)
        && !plan[..at].iter().any(|section| section.name == "model")
    {
        plan.retain(|section| section.name != "model");
        let model = first.into_iter().find(|section| section.name == "model");
        let at = plan
            .iter()
            .take_while(|section| !section.after_model)
            .count();
        plan.splice(at..at, model);
    }
    Ok(plan)
}

fn any_model() -> Model {
    Model {
        size: "large".to_owned(),
        device: "cuda:0".to_owned(),
    }
}

fn names() -> String {
    let model = any_model();
    let all = first(&model)
        .into_iter()
        .chain(second(&model).into_iter().skip(1));
    let names: Vec<String> = all.map(|section| section.name).collect();
    names.join(", ")
}

/// All sections with the seconds after which each is ended.
pub fn help() -> String {
    let model = any_model();
    let mut text = String::new();
    for (call, sections) in [("first", first(&model)), ("second", second(&model))] {
        text += &format!("Sections of `{call}`, each with the seconds after which it is ended:\n");
        for section in sections {
            text += &format!(
                "  {:28} {:4}  {}\n",
                section.name, section.limit, section.title
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(asked: &[&str]) -> Vec<String> {
        let asked: Vec<String> = asked.iter().map(|&s| s.to_owned()).collect();
        let plan = plan(&asked, &any_model()).expect("they exist");
        plan.into_iter().map(|section| section.name).collect()
    }

    #[test]
    fn the_first_call_goes_from_kernels_to_speed() {
        let names = names_of(&["first"]);
        let at = |name: &str| names.iter().position(|n| n == name).expect(name);
        let order = [
            "start",
            "kernels-bf16-attention",
            "kernels-bf16-attention-others",
            "kernels-f32-attention",
            "kernels-f32-area",
            "training",
            "model",
            "compare",
            "speed",
            "micro",
            "eager",
            "blocks",
            "whole",
        ];
        assert!(
            order.windows(2).all(|pair| at(pair[0]) < at(pair[1])),
            "{names:?}"
        );
        assert_eq!(at("kernels-bf16-attention"), 1);
    }

    #[test]
    fn the_second_call_begins_with_what_failed() {
        let names = names_of(&["training", "kernels-f32-gelu", "second"]);
        assert_eq!(names[..3], ["start", "training", "kernels-f32-gelu"]);
        assert!(names.contains(&"memcheck-attention".to_owned()));
        assert_eq!(names.iter().filter(|n| *n == "start").count(), 1);
    }

    #[test]
    fn who_asks_for_the_comparison_gets_the_model_that_it_compares() {
        assert_eq!(names_of(&["compare"]), ["start", "model", "compare"]);
        assert_eq!(
            names_of(&["compare", "model"]),
            ["start", "model", "compare"]
        );
        let none = plan(&["kernel".to_owned()], &any_model()).expect_err("none");
        assert!(
            none.contains("no section kernel") && none.contains("racecheck-f32"),
            "{none}"
        );
    }

    #[test]
    fn every_family_of_kernels_is_in_a_section() {
        use mtcae_kernels::cuda::Element;
        use mtcae_kernels::cuda::checks::families;
        for (ty, element) in [
            ("bf16", Element::Bf16),
            ("f32", Element::F32),
            ("f16", Element::F16),
        ] {
            let sections = kernels(ty, &any_model());
            for family in families(element) {
                let named = |s: &Section| s.arguments.iter().any(|a| a == family);
                assert!(sections.iter().any(named), "{ty} {family}");
            }
        }
    }
}
