//! Results as an annotation of ELAN: EAF 3.0.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use mtcae_dfer::{PURPOSE, Results};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::interval::{Interval, intervals_of};
use crate::table::{distinct, provenance};
use crate::{Error, file_of};

/// Names of linguistic types, of the vocabulary, and beginnings of the names of tiers.
const EXPRESSION: &str = "expression";
const CONFIDENCE: &str = "confidence";
const REMARK: &str = "remarks";

/// The language of what is written, by its ISO 639-3 code.
const LANGUAGE: &str = "eng";
const LANGUAGE_URL: &str = "http://cdb.iso.org/lg/CDB-00138502-001";

/// What stays as it is in the path of a URL.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Writes one file's results as an EAF document: for each person a tier of expressions with a
/// controlled vocabulary, a tier of their confidences that depends on it, and a tier of
/// remarks: why there is no answer, and warnings. `folder` is the one in which the document
/// will lie, which the media's relative link begins from; by default the current one.
///
/// # Errors
/// [`Error::Timeline`]; what the writer reports.
pub fn write_eaf(results: &Results, folder: Option<&Path>, out: impl Write) -> Result<(), Error> {
    let intervals = intervals_of(results)?;
    let tiers = tiers(&intervals);
    let classes = vocabulary(results, &intervals);
    let mut xml = Writer::new_with_indent(out, b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
    xml.create_element("ANNOTATION_DOCUMENT")
        .with_attributes([
            ("AUTHOR", "mtcae"),
            ("DATE", &now),
            ("FORMAT", "3.0"),
            ("VERSION", "3.0"),
            ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
            (
                "xsi:noNamespaceSchemaLocation",
                "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
            ),
        ])
        .write_inner_content(|xml| {
            header(xml, results, folder, count(&tiers))?;
            let slots = slots(&tiers);
            time_order(xml, &slots)?;
            write_tiers(xml, &tiers, &slots, &classes)?;
            types(xml, !classes.is_empty())?;
            xml.create_element("LANGUAGE")
                .with_attributes([
                    ("LANG_DEF", LANGUAGE_URL),
                    ("LANG_ID", LANGUAGE),
                    ("LANG_LABEL", "English (eng)"),
                ])
                .write_empty()?;
            constraints(xml)?;
            controlled(xml, &classes)
        })?;
    let mut out = xml.into_inner();
    Ok(out.write_all(b"\n")?)
}

/// The annotations of one tier; of a dependent one, `parent` is the position of the tier that
/// it depends on, each annotation on one of that.
struct Tier<'a> {
    id: String,
    kind: &'static str,
    participant: Option<String>,
    parent: Option<usize>,
    annotations: Vec<(&'a Interval, String)>,
}

/// Three tiers a person.
fn tiers(intervals: &[Interval]) -> Vec<Tier<'_>> {
    let mut tiers: Vec<Tier<'_>> = Vec::new();
    let people: Vec<&[Interval]> = match intervals {
        // The tiers are there, though nothing is in them.
        [] => vec![&[]],
        all => all.chunk_by(|a, b| a.person == b.person).collect(),
    };
    for person in people {
        let participant = person
            .first()
            .and_then(|i| i.person)
            .map(|n| format!("person {n}"));
        let tier = |kind, parent, annotations| Tier {
            id: match &participant {
                Some(name) => format!("{kind} {name}"),
                None => String::from(kind),
            },
            kind,
            participant: participant.clone(),
            parent,
            annotations,
        };
        let told = || {
            person
                .iter()
                .filter_map(|i| Some((i, i.expression.as_ref()?)))
        };
        let expressions = told().map(|(i, expression)| (i, expression.clone()));
        // An annotation for each, so that one depends on the other by its position.
        let confidences = told().map(|(i, _)| {
            let text = i.confidence.map(|c| c.to_string());
            (i, text.unwrap_or_default())
        });
        let remarks = person.iter().map(|i| (i, i.remarks().join("; ")));
        let remarks = remarks.filter(|(_, text)| !text.is_empty());
        let parent = tiers.len();
        tiers.push(tier(EXPRESSION, None, expressions.collect()));
        tiers.push(tier(CONFIDENCE, Some(parent), confidences.collect()));
        tiers.push(tier(REMARK, None, remarks.collect()));
    }
    tiers
}

/// The model's classes.
fn vocabulary(results: &Results, intervals: &[Interval]) -> Vec<String> {
    let predictions = results.answer.predictions();
    let classes = predictions
        .iter()
        .flat_map(|p| &p.probabilities)
        .map(|p| &p.class[..]);
    let named = intervals.iter().filter_map(|i| i.expression.as_deref());
    distinct(classes.chain(named))
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn count(tiers: &[Tier<'_>]) -> usize {
    tiers.iter().map(|tier| tier.annotations.len()).sum()
}

/// A moment that an annotation begins or ends with.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    time: i64,
    tier: usize,
    annotation: usize,
    is_end: bool,
}

/// All moments in the order of time; each annotation has its own, so that moving one in ELAN
/// moves no other.
fn slots(tiers: &[Tier<'_>]) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (tier, of) in tiers.iter().enumerate().filter(|(_, t)| t.parent.is_none()) {
        for (annotation, (interval, _)) in of.annotations.iter().enumerate() {
            for (time, is_end) in [(interval.start, false), (interval.end, true)] {
                slots.push(Slot {
                    time,
                    tier,
                    annotation,
                    is_end,
                });
            }
        }
    }
    slots.sort();
    slots
}

type Xml<W> = Writer<W>;
type Written = std::io::Result<()>;

fn header<W: Write>(
    xml: &mut Xml<W>,
    results: &Results,
    folder: Option<&Path>,
    annotations: usize,
) -> Written {
    xml.create_element("HEADER")
        .with_attributes([("MEDIA_FILE", ""), ("TIME_UNITS", "milliseconds")])
        .write_inner_content(|xml| {
            if let Some(file) = file_of(results) {
                let (absolute, relative) = links(Path::new(&file), folder)?;
                xml.create_element("MEDIA_DESCRIPTOR")
                    .with_attributes([
                        ("MEDIA_URL", &absolute[..]),
                        ("MIME_TYPE", mime(Path::new(&file))),
                        ("RELATIVE_MEDIA_URL", &relative),
                    ])
                    .write_empty()?;
            }
            let mut about = vec![
                ("lastUsedAnnotationId", annotations.to_string()),
                ("mtcae.purpose", PURPOSE.to_owned()),
                ("mtcae.provenance", provenance(&[results]).to_string()),
            ];
            about.extend(file_of(results).map(|file| (crate::about::FILE, file)));
            for (name, value) in about {
                xml.create_element("PROPERTY")
                    .with_attribute(("NAME", name))
                    .write_text_content(BytesText::new(&text(&value)))?;
            }
            Ok(())
        })?;
    Ok(())
}

/// The characters that XML can hold.
fn text(text: &str) -> String {
    let may =
        |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\t' | '\n');
    text.chars()
        .map(|c| if may(c) { c } else { '\u{fffd}' })
        .collect()
}

/// The absolute and the relative link to a file.
fn links(file: &Path, folder: Option<&Path>) -> std::io::Result<(String, String)> {
    let file = std::path::absolute(file)?;
    let folder = std::path::absolute(folder.unwrap_or(Path::new(".")))?;
    let encode =
        |path: &Path| percent_encode(path.as_os_str().as_encoded_bytes(), &PATH).to_string();
    let mut relative = encode(&relative(&file, &folder));
    if !relative.starts_with("..") {
        relative.insert_str(0, "./");
    }
    Ok((format!("file://{}", encode(&file)), relative))
}

/// The way from a folder to a file, both absolute.
fn relative(file: &Path, folder: &Path) -> PathBuf {
    let parts = |path: &Path| -> Vec<PathBuf> {
        let part = |c: Component<'_>| PathBuf::from(c.as_os_str());
        path.components().map(part).collect()
    };
    let (file, folder) = (parts(file), parts(folder));
    let shared = file.iter().zip(&folder).take_while(|(a, b)| a == b).count();
    let up = folder.iter().skip(shared).map(|_| PathBuf::from(".."));
    up.chain(file.iter().skip(shared).cloned()).collect()
}

/// The MIME type that ELAN knows a medium by.
fn mime(file: &Path) -> &'static str {
    let ending = file.extension().and_then(OsStr::to_str).unwrap_or_default();
    match &ending.to_ascii_lowercase()[..] {
        "mp4" | "m4v" => "video/mp4",
        "mpg" | "mpeg" => "video/mpeg",
        "mov" | "qt" => "video/quicktime",
        "avi" => "video/x-msvideo",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => "video/*",
    }
}

fn time_order<W: Write>(xml: &mut Xml<W>, slots: &[Slot]) -> Written {
    xml.create_element("TIME_ORDER")
        .write_inner_content(|xml| {
            for (i, slot) in slots.iter().enumerate() {
                xml.create_element("TIME_SLOT")
                    .with_attributes([
                        ("TIME_SLOT_ID", &format!("ts{}", i + 1)[..]),
                        ("TIME_VALUE", &slot.time.to_string()),
                    ])
                    .write_empty()?;
            }
            Ok(())
        })?;
    Ok(())
}

fn write_tiers<W: Write>(
    xml: &mut Xml<W>,
    tiers: &[Tier<'_>],
    slots: &[Slot],
    classes: &[String],
) -> Written {
    let name =
        |tier: usize, annotation: usize| format!("a{}", count(&tiers[..tier]) + annotation + 1);
    // Names of the two moments of each annotation.
    let mut moments = std::collections::HashMap::new();
    for (i, slot) in slots.iter().enumerate() {
        let key = (slot.tier, slot.annotation, slot.is_end);
        moments.insert(key, format!("ts{}", i + 1));
    }
    for (t, tier) in tiers.iter().enumerate() {
        let mut attributes = vec![("LINGUISTIC_TYPE_REF", tier.kind), ("TIER_ID", &tier.id)];
        if let Some(parent) = tier.parent {
            attributes.push(("PARENT_REF", &tiers[parent].id));
        }
        if let Some(participant) = &tier.participant {
            attributes.push(("PARTICIPANT", participant));
        }
        let element = xml.create_element("TIER").with_attributes(attributes);
        if tier.annotations.is_empty() {
            element.write_empty()?;
            continue;
        }
        element.write_inner_content(|xml| {
            for (a, (_, value)) in tier.annotations.iter().enumerate() {
                let id = name(t, a);
                let class = classes.iter().position(|class| class == value);
                let entry = class.map(|i| format!("cveid{i}"));
                let parent = tier.parent.map(|parent| name(parent, a));
                let moment = |is_end| moments.get(&(t, a, is_end)).map_or("", String::as_str);
                let mut attributes = vec![("ANNOTATION_ID", &id[..])];
                match &parent {
                    Some(parent) => attributes.push(("ANNOTATION_REF", parent)),
                    None => {
                        attributes.push(("TIME_SLOT_REF1", moment(false)));
                        attributes.push(("TIME_SLOT_REF2", moment(true)));
                    }
                }
                if let Some(entry) = entry.as_ref().filter(|_| tier.kind == EXPRESSION) {
                    attributes.push(("CVE_REF", entry));
                }
                let kind = match parent {
                    Some(_) => "REF_ANNOTATION",
                    None => "ALIGNABLE_ANNOTATION",
                };
                xml.create_element("ANNOTATION")
                    .write_inner_content(|xml| {
                        let element = xml.create_element(kind).with_attributes(attributes);
                        element.write_inner_content(|xml| {
                            let value = text(value);
                            xml.create_element("ANNOTATION_VALUE")
                                .write_text_content(BytesText::new(&value))?;
                            Ok(())
                        })?;
                        Ok(())
                    })?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn types<W: Write>(xml: &mut Xml<W>, has_vocabulary: bool) -> Written {
    for (kind, alignable) in [
        (EXPRESSION, "true"),
        (CONFIDENCE, "false"),
        (REMARK, "true"),
    ] {
        let mut attributes = vec![
            ("GRAPHIC_REFERENCES", "false"),
            ("LINGUISTIC_TYPE_ID", kind),
            ("TIME_ALIGNABLE", alignable),
        ];
        if kind == EXPRESSION && has_vocabulary {
            attributes.push(("CONTROLLED_VOCABULARY_REF", EXPRESSION));
        }
        if kind == CONFIDENCE {
            attributes.push(("CONSTRAINTS", "Symbolic_Association"));
        }
        xml.create_element("LINGUISTIC_TYPE")
            .with_attributes(attributes)
            .write_empty()?;
    }
    Ok(())
}

/// The one relation between tiers that is used here.
fn constraints<W: Write>(xml: &mut Xml<W>) -> Written {
    xml.create_element("CONSTRAINT")
        .with_attributes([
            ("DESCRIPTION", "1-1 association with a parent annotation"),
            ("STEREOTYPE", "Symbolic_Association"),
        ])
        .write_empty()?;
    Ok(())
}

fn controlled<W: Write>(xml: &mut Xml<W>, classes: &[String]) -> Written {
    if classes.is_empty() {
        return Ok(());
    }
    xml.create_element("CONTROLLED_VOCABULARY")
        .with_attribute(("CV_ID", EXPRESSION))
        .write_inner_content(|xml| {
            xml.create_element("DESCRIPTION")
                .with_attribute(("LANG_REF", LANGUAGE))
                .write_text_content(BytesText::new("Expressions that the model tells apart"))?;
            for (i, class) in classes.iter().enumerate() {
                xml.create_element("CV_ENTRY_ML")
                    .with_attribute(("CVE_ID", &format!("cveid{i}")[..]))
                    .write_inner_content(|xml| {
                        xml.create_element("CVE_VALUE")
                            .with_attributes([("DESCRIPTION", ""), ("LANG_REF", LANGUAGE)])
                            .write_text_content(BytesText::new(&text(class)))?;
                        Ok(())
                    })?;
            }
            Ok(())
        })?;
    Ok(())
}
