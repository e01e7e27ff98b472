//! `compare` as a person runs it.

mod training;

use training::{done, material, refused, run, text};

#[test]
fn the_systems_of_the_tables_are_listed() {
    let said = done("compare", &["--list"]);
    for name in [
        "vo-lstm",
        "resnext-50",
        "svfap",
        "mae-dfer",
        "mnc",
        "mtl-er",
        "mtformer",
    ] {
        assert!(
            said.lines()
                .any(|line| line.starts_with(&format!("{name} "))),
            "{said}"
        );
    }
    let said = done("compare", &["--list", "--systems", "mtcae-dfer"]);
    assert_eq!(
        said.trim_end(),
        "mtcae-dfer           MTCAE-DFER: videomae:large with cascade, recipe paper; re-trained"
    );
}

#[test]
fn a_rate_for_all_that_some_recipes_scale_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let defined = at("systems.toml");
    // Neither gets as far as to be trained.
    let system = "encoder = \"lgi-former:tiny\"\ndecoder = \"cascade\"\nweights = \"none.pth\"\n";
    let systems = format!("[plain]\n{system}[scaled]\n{system}recipe = \"mae-dfer\"\n");
    std::fs::write(&defined, systems).expect("written");
    let said = |more: &[&str], out: &str| {
        let out = at(out);
        let (labels, define) = (&material().labels[..], &defined[..]);
        let args = ["--labels", labels, "--define", define, "--out", &out];
        let systems = ["--systems", "plain,scaled", "--size", "small"];
        let output = run("compare", &[&args[..], &systems, more].concat());
        text(&output.stderr).to_owned()
    };
    let warning = "in the recipes of scaled, and not in the others: --scale-lr false gives";
    let one = said(&["--lr", "1e-3", "--validation", "0"], "one");
    assert!(one.contains(warning), "{one}");
    let settled = ["--lr", "1e-3", "--scale-lr", "false", "--validation", "0"];
    let two = said(&settled, "two");
    assert!(!two.contains("--scale-lr"), "{two}");
}

#[test]
fn one_command_makes_the_table_and_what_failed_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, defined) = (at("compared"), at("systems.toml"));
    std::fs::write(
        &defined,
        "[ours]\nencoder = \"lgi-former:tiny\"\ndecoder = \"shared-mlp\"\n\
         [never]\nencoder = \"lgi-former:tiny\"\ndecoder = \"cascade\"\nweights = \"none.pth\"\n",
    )
    .expect("written");
    let labels = &material().labels;
    let args = [
        "--labels",
        labels,
        "--out",
        &out,
        "--define",
        &defined,
        "--systems",
        "never,ours",
        "--size",
        "small",
        "--epochs",
        "1",
        "--tune",
        "all",
        "--validation",
        "0",
        "--threads",
        "2",
    ];
    let output = run("compare", &args);
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(table.contains("| ours | our adaptation | "), "{table}");
    assert!(said.contains("never, seed 0: none.pth"), "{said}");
    // Again from what was predicted.
    assert_eq!(done("compare", &["--out", &out, "--tables"]), table);

    for (more, words) in [
        (
            &["--systems", "theirs"][..],
            "--systems: there is no \"theirs\"; known: vo-lstm, ",
        ),
        (
            &["--weights", "ours"],
            "--weights: \"ours\" is not SYSTEM=FILE, DIR or hub:NAME",
        ),
        (
            &["--weights", "mnc=a.pth"],
            "--weights: \"mnc\" is not among the systems",
        ),
        (
            &["--track", "native"],
            "--track: native, but nothing is known of how never is shown",
        ),
        (
            &["--lr", "fast"],
            "--lr: \"fast\" is not a value of this setting",
        ),
        (
            &["--epochs", "2"],
            "never by another definition or other settings",
        ),
    ] {
        let mut args = [&args[..], &["--quiet"]].concat();
        for more in more.chunks(2) {
            if let Some(at) = args.iter().position(|a| *a == more[0]) {
                args.drain(at..at + 2);
            }
            args.extend(more);
        }
        let said = refused("compare", &args);
        assert!(said.contains(words), "{said}");
    }
    let said = refused("compare", &["--out", &at("empty"), "--tables"]);
    assert!(said.contains("there is no comparison here"), "{said}");
}
