//! What a comparison found, as Markdown and as a page.

use std::fmt::Write as _;

use mtcae_objective::Interval;

use super::findings::{Findings, Row};
use super::run::Planned;
use crate::published::{self, Published};

/// Of a text that is the same in both forms.
struct Sheet {
    head: String,
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    Title(String),
    Grid {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    List(Vec<String>),
}

/// Differences below this chance are said to be ones.
const LEVEL: f64 = 0.05;

/// As Markdown.
pub fn markdown(findings: &Findings) -> String {
    let sheet = sheet(findings);
    let cell = |text: &String| text.replace('|', "\\|");
    let mut out = format!("# {}\n", sheet.head);
    for part in &sheet.parts {
        // Writing to a string cannot fail.
        let _ = match part {
            Part::Text(text) => writeln!(out, "\n{text}"),
            Part::Title(text) => writeln!(out, "\n## {text}"),
            Part::List(items) => writeln!(out, "\n- {}", items.join("\n- ")),
            Part::Grid { head, rows } => {
                let line = |cells: &[String]| {
                    let cells: Vec<String> = cells.iter().map(cell).collect();
                    format!("| {} |", cells.join(" | "))
                };
                let rule = "---|".repeat(head.len());
                let rows: Vec<String> = rows.iter().map(|row| line(row)).collect();
                writeln!(out, "\n{}\n|{rule}\n{}", line(head), rows.join("\n"))
            }
        };
    }
    out
}

/// As a page that needs nothing else.
pub fn html(findings: &Findings) -> String {
    let sheet = sheet(findings);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escaped(&sheet.head)
    );
    for part in &sheet.parts {
        match part {
            Part::Text(text) => out += &format!("<p>{}</p>\n", escaped(text)),
            Part::Title(text) => out += &format!("<h2>{}</h2>\n", escaped(text)),
            Part::List(items) => {
                out += "<ul>\n";
                for item in items {
                    out += &format!("<li>{}</li>\n", escaped(item));
                }
                out += "</ul>\n";
            }
            Part::Grid { head, rows } => {
                out += "<div class=\"wide\"><table>\n<thead><tr>";
                for cell in head {
                    out += &format!("<th>{}</th>", escaped(cell));
                }
                out += "</tr></thead>\n<tbody>\n";
                for row in rows {
                    out += "<tr>";
                    for cell in row {
                        out += &format!("<td>{}</td>", escaped(cell));
                    }
                    out += "</tr>\n";
                }
                out += "</tbody></table></div>\n";
            }
        }
    }
    out + "</html>\n"
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .6rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}\
td:not(:first-child){white-space:nowrap}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn sheet(findings: &Findings) -> Sheet {
    let plan = &findings.plan;
    let mut parts = vec![Part::Text(format!(
        "{} clips of {} people; {}. {} of training ({}), systems in {} size. UAR and WAR are of all \
         folds' clips together, the mean over the seeds; ± is the standard deviation over folds \
         and seeds. {}",
        plan.clips,
        plan.subjects,
        plan.protocol,
        match plan.seeds.len() {
            1 => "1 seed".to_owned(),
            n => format!("{n} seeds"),
        },
        list(plan.seeds.iter().map(u64::to_string)),
        match plan.size {
            super::Size::Full => "full",
            super::Size::Small => "small",
        },
        plan.about,
    ))];
    let b = &findings.bootstrap;
    parts.push(Part::Text(match &findings.no_interval {
        Some(why) => format!("No intervals and no tests of differences: {why}."),
        None => format!(
            "In brackets {} % intervals by {} samples of whole people (seed {}). A difference is \
             tested on the same samples of both systems, and its probability is corrected for \
             {} tests (Holm); * is below {LEVEL}.",
            100.0 * b.level,
            b.resamples,
            b.seed,
            findings.pairs.len()
        ),
    }));
    parts.push(main_grid(findings));
    parts.push(Part::Title("What it costs".to_owned()));
    parts.push(cost_grid(findings));
    let machines: std::collections::BTreeSet<&str> =
        findings.rows.iter().map(|row| &*row.cell.machine).collect();
    parts.push(Part::Text(format!(
        "One forward of one view; hours of all folds with one seed; clips a second with decoding, \
         in training and in the test; the most memory that the process held. Measured on {}.",
        list(machines.into_iter().map(str::to_owned))
    )));
    if findings.pairs.len() > 1 {
        parts.push(Part::Title("Differences in UAR".to_owned()));
        parts.push(Part::Text(
            "Points of UAR by which the system of the row is ahead of that of the column, with \
             the corrected probability of as much by chance."
                .to_owned(),
        ));
        parts.push(pair_grid(findings));
    }
    parts.push(Part::Title("What each row is".to_owned()));
    parts.push(Part::List(plan.systems.iter().map(about).collect()));
    if !findings.missing.is_empty() {
        parts.push(Part::Title("Missing".to_owned()));
        parts.push(Part::List(findings.missing.clone()));
    }
    Sheet {
        head: format!("Systems on {}, track {}", plan.dataset, plan.track),
        parts,
    }
}

fn main_grid(findings: &Findings) -> Part {
    let plan = &findings.plan;
    let tables = published::tables(&plan.dataset);
    let faces = findings
        .rows
        .iter()
        .any(|r| r.iou.is_some() || r.nme.is_some());
    // Everything is held against the paper's own system, or the last.
    let own = findings
        .rows
        .iter()
        .position(|row| plan.systems[row.system].published.as_deref() == Some(OWN));
    let own = own.or(findings.rows.len().checked_sub(1));
    let mut head = strings(["system", "", "UAR %", "WAR %"]);
    if let Some(own) = own.filter(|_| !findings.pairs.is_empty()) {
        let title = &plan.systems[findings.rows[own].system].title;
        head.push(format!("UAR less {title}'s"));
        head.push("p".to_owned());
    }
    if faces {
        head.extend(strings(["IoU", "NME %"]));
    }
    if let Some(tables) = tables {
        head.push(format!("published UAR / WAR %, {}", tables.dataset));
        head.push("published under".to_owned());
    }
    let rows = findings.rows.iter().enumerate().map(|(place, row)| {
        let system = &plan.systems[row.system];
        let mut cells = vec![
            match row.seeds.len() == plan.seeds.len() {
                true => system.title.clone(),
                false => format!(
                    "{} (seeds {})",
                    system.title,
                    list(row.seeds.iter().map(u64::to_string))
                ),
            },
            system.status.to_string(),
            measured(row.uar.percent(), row.uar_interval),
            measured(row.war.percent(), row.war_interval),
        ];
        if let Some(own) = own.filter(|_| !findings.pairs.is_empty()) {
            match findings.pair(place, own) {
                Some((pair, turned)) => {
                    let sign = if turned { -1.0 } else { 1.0 };
                    let i = pair.uar.interval;
                    let [low, high] = match turned {
                        false => [i.low, i.high],
                        true => [-i.high, -i.low],
                    };
                    cells.push(format!(
                        "{} ({} to {})",
                        points(sign * i.estimate, 2),
                        points(low, 1),
                        points(high, 1)
                    ));
                    cells.push(chance(pair.p));
                }
                None => cells.extend(strings(["–", "–"])),
            }
        }
        if faces {
            cells.push(number(row.iou, 3));
            cells.push(number(row.nme.map(|v| 100.0 * v), 1));
        }
        if let Some(tables) = tables {
            let of = |m: &&Published| Some(m.method) == system.published.as_deref();
            match tables.methods.iter().find(of) {
                Some(m) => {
                    cells.push(format!("{} / {:.2}", number(m.uar, 2), m.war));
                    cells.push(system.under.clone().unwrap_or_else(|| "–".to_owned()));
                }
                None => cells.extend(strings(["–", "–"])),
            }
        }
        cells
    });
    let rows = rows.collect();
    Part::Grid { head, rows }
}

/// The paper's own system in its tables.
const OWN: &str = "MTCAE-DFER";

fn cost_grid(findings: &Findings) -> Part {
    let head = strings([
        "system",
        "parameters",
        "trained",
        "GFLOP",
        "epochs",
        "hours",
        "clips/s training",
        "clips/s test",
        "peak MiB",
    ]);
    let row = |row: &Row| {
        let cell = &row.cell;
        vec![
            findings.plan.systems[row.system].title.clone(),
            thousands(cell.parameters),
            thousands(cell.trained),
            format!("{:.3}", cell.flops / 1e9),
            cell.epochs.to_string(),
            format!("{:.2}", cell.hours),
            number(cell.training, 1),
            number(cell.inference, 1),
            number(cell.peak_bytes.map(|b| b as f64 / f64::from(1 << 20)), 0),
        ]
    };
    let rows = findings.rows.iter().map(row).collect();
    Part::Grid { head, rows }
}

fn pair_grid(findings: &Findings) -> Part {
    let title = |row: &Row| findings.plan.systems[row.system].title.clone();
    let mut head = vec![String::new()];
    head.extend(findings.rows.iter().map(title));
    let rows = findings.rows.iter().enumerate().map(|(a, row)| {
        let mut cells = vec![title(row)];
        for b in 0..findings.rows.len() {
            cells.push(match findings.pair(a, b) {
                None => String::new(),
                Some((pair, turned)) => {
                    let sign = if turned { -1.0 } else { 1.0 };
                    let points = points(sign * pair.uar.interval.estimate, 1);
                    format!("{points}, {}", chance(pair.p))
                }
            });
        }
        cells
    });
    let rows = rows.collect();
    Part::Grid { head, rows }
}

fn about(system: &Planned) -> String {
    let mut text = format!(
        "{}: encoder {}{}, decoder {}, recipe {}; {}",
        system.title,
        system.encoder,
        if system.pretrained {
            " (pretrained)"
        } else {
            " (drawn, not pretrained)"
        },
        system.decoder,
        system.recipe,
        system.status
    );
    if let Some(note) = &system.note {
        text += &format!(": {note}");
    }
    if !system.unpublished.is_empty() {
        let names = list(system.unpublished.iter().cloned());
        text += &format!(". Of its recipe ours, since no source says it: {names}");
    }
    text
}

fn measured(text: String, interval: Option<Interval>) -> String {
    match interval {
        Some(i) => format!("{text} ({:.1} to {:.1})", 100.0 * i.low, 100.0 * i.high),
        None => text,
    }
}

/// A difference of fractions in points, with its sign where it has one.
fn points(value: f64, digits: usize) -> String {
    let text = format!("{:+.digits$}", 100.0 * value);
    match text.trim_start_matches(['+', '-', '0', '.']).is_empty() {
        true => text[1..].to_owned(),
        false => text,
    }
}

fn chance(p: f64) -> String {
    let star = if p < LEVEL { "*" } else { "" };
    format!("{p:.3}{star}")
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"))
}

/// `84,878,343`.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
