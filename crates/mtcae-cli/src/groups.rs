//! Figures by group: what clips show, in the columns of a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use mtcae_train::{Alike, ClipResult, summarise};

use crate::Fault;

/// Values of a column that are groups of their own; of more, which are numbers, quarters are
/// made.
const MOST_VALUES: usize = 8;

/// A table of clips: names of the columns, and each file's cells.
struct Table {
    columns: Vec<String>,
    rows: HashMap<String, Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, Fault> {
        let fault = |e: csv::Error| format!("{}: {e}", path.display());
        let mut reader = csv::Reader::from_path(path).map_err(fault)?;
        let columns: Vec<String> = reader
            .headers()
            .map_err(fault)?
            .iter()
            .map(String::from)
            .collect();
        let Some(file) = columns.iter().position(|c| c == "file") else {
            return Err(format!("{}: lacks the column `file`", path.display()).into());
        };
        let mut rows = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(fault)?;
            rows.insert(
                record[file].to_owned(),
                record.iter().map(String::from).collect(),
            );
        }
        Ok(Self { columns, rows })
    }

    /// The groups of a column, in order, and the group of each value.
    fn groups(&self, column: usize) -> BTreeMap<String, (usize, String)> {
        let values: BTreeSet<&str> = self.rows.values().map(|r| &r[column][..]).collect();
        let plain = values.iter().enumerate().map(|(i, v)| (i, (*v).to_owned()));
        let numbers: Option<Vec<f64>> =
            self.rows.values().map(|r| r[column].parse().ok()).collect();
        let Some(mut numbers) = numbers.filter(|_| values.len() > MOST_VALUES) else {
            return values.iter().map(|v| (*v).to_owned()).zip(plain).collect();
        };
        numbers.sort_by(f64::total_cmp);
        let bounds = [1, 2, 3].map(|q| numbers[q * numbers.len() / 4]);
        let name = |group: usize| match group {
            0 => format!("under {:.1}", bounds[0]),
            3 => format!("from {:.1}", bounds[2]),
            g => format!("{:.1} to {:.1}", bounds[g - 1], bounds[g]),
        };
        let of = |value: &str| {
            let value: f64 = value.parse().unwrap_or_default();
            let group = bounds.iter().filter(|b| value >= **b).count();
            (group, name(group))
        };
        values.iter().map(|v| ((*v).to_owned(), of(v))).collect()
    }
}

/// Figures of the clips by each column of a table that has the files of some, and how many
/// those are.
///
/// # Errors
/// Names the table where it cannot be read or has none of the clips.
pub fn by_group(
    path: &Path,
    results: &[ClipResult],
    classes: &[String],
) -> Result<(usize, Vec<Alike>), Fault> {
    let table = Table::read(path)?;
    let known: Vec<&ClipResult> = results
        .iter()
        .filter(|r| table.rows.contains_key(&r.file))
        .collect();
    if known.is_empty() {
        let name = path.display();
        return Err(format!("{name}: none of its files is one of the clips measured").into());
    }
    let mut found = Vec::new();
    for (column, by) in table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, c)| *c != "file")
    {
        let groups = table.groups(column);
        let mut clips: BTreeMap<&(usize, String), Vec<ClipResult>> = BTreeMap::new();
        for result in &known {
            if let Some(group) = groups.get(&table.rows[&result.file][column]) {
                clips.entry(group).or_default().push((*result).clone());
            }
        }
        if clips.len() < 2 {
            continue;
        }
        for ((_, name), clips) in clips {
            found.push(Alike {
                by: by.clone(),
                name: name.clone(),
                summary: summarise(&clips, classes, None)?,
            });
        }
    }
    Ok((known.len(), found))
}

/// Groups in words, a line each.
pub fn in_words(groups: &[Alike]) -> String {
    let mut text = String::new();
    for Alike { by, name, summary } in groups {
        let s = summary;
        let part = |label: &str, value: Option<f64>, unit: f64, digits: usize, sign: &str| {
            value.map_or(String::new(), |v| {
                format!(", {label} {:.digits$}{sign}", v * unit)
            })
        };
        text += &format!(
            "\n  {by} {name}: {} clips, UAR {:.1} %, WAR {:.1} %{}{}",
            s.clips,
            100.0 * s.uar,
            100.0 * s.war,
            part("IoU", s.mean_iou, 1.0, 3, ""),
            part("NME", s.nme, 100.0, 1, " %"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(file: &str, right: bool) -> ClipResult {
        ClipResult {
            file: file.to_owned(),
            subject: file.to_owned(),
            level: None,
            fold: 0,
            class: 0,
            probabilities: if right {
                vec![0.9, 0.1]
            } else {
                vec![0.1, 0.9]
            },
            logits: Vec::new(),
            frames: 0,
            iou: None,
            nme: None,
            action_units: Vec::new(),
        }
    }

    #[test]
    fn clips_are_measured_by_value_and_numbers_by_quarter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts.csv");
        let mut text = "light,file,yaw\n".to_owned();
        for i in 0..16 {
            text += &format!(
                "{},{i}.mp4,{i}.5\n",
                if i % 2 == 0 { "flat" } else { "hard" }
            );
        }
        std::fs::write(&path, text).unwrap();
        let results: Vec<_> = (0..16)
            .map(|i| result(&format!("{i}.mp4"), i % 2 == 0))
            .collect();
        let classes = ["a".to_owned(), "b".to_owned()];
        let (clips, groups) = by_group(&path, &results, &classes).unwrap();
        assert_eq!(clips, 16);
        let said = in_words(&groups);
        assert!(said.contains("light flat: 8 clips, UAR 100.0 %"), "{said}");
        assert!(said.contains("light hard: 8 clips, UAR 0.0 %"), "{said}");
        assert!(
            said.contains("yaw under 4.5: 4 clips, UAR 50.0 %"),
            "{said}"
        );
        assert!(said.contains("yaw from 12.5: 4 clips"), "{said}");
        let none = by_group(&path, &[result("other.mp4", true)], &classes)
            .err()
            .unwrap();
        assert!(none.to_string().contains("none of its files"));
        std::fs::write(&path, "name\n1\n").unwrap();
        let none = by_group(&path, &results, &classes).err().unwrap();
        assert!(none.to_string().contains("lacks the column `file`"));
    }
}
