//! The table of crates in `docs/architecture.md` says what each crate depends on.

use std::collections::BTreeSet;
use std::path::Path;

/// Names of our crates below a manifest's `[dependencies]`, without `mtcae-`.
fn depends_on(manifest: &str) -> BTreeSet<String> {
    let start = manifest
        .find("[dependencies]")
        .map_or("", |i| &manifest[i..]);
    let lines = start
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.strip_prefix("mtcae-"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_crate_imports_another_that_the_table_does_not_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("read");
    let text = read("docs/architecture.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix("`mtcae-")?.strip_suffix('`')?;
        Some((name.to_owned(), cells.get(3)?.to_string()))
    });
    let (mut seen, mut above) = (BTreeSet::new(), BTreeSet::from(["core".to_owned()]));
    for (name, uses) in rows {
        let found = depends_on(&read(&format!("crates/mtcae-{name}/Cargo.toml")));
        if uses == "all of the above" {
            assert!(
                found.is_subset(&above),
                "{name} imports what stands below it"
            );
        } else {
            let mut named: BTreeSet<String> = uses.split(", ").map(str::to_owned).collect();
            named.remove("");
            let mut without = found.clone();
            without.remove("core");
            assert_eq!(
                without, named,
                "mtcae-{name}: imported, and named in the table"
            );
            assert!(
                named.is_subset(&above),
                "{name} stands above what it imports"
            );
        }
        above.insert(name.clone());
        seen.insert(name);
    }
    let crates = std::fs::read_dir(root.join("crates")).expect("crates");
    for folder in crates {
        let name = folder.expect("an entry").file_name();
        let name = name.to_string_lossy().replace("mtcae-", "");
        assert!(seen.contains(&name), "mtcae-{name} is not in the table");
    }
}
