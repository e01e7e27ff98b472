//! What the paper publishes, to be printed beside one's own figures.

use mtcae_model::decoder::Structure;

/// A published result in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Method, as the paper names it.
    pub method: &'static str,
    /// Unweighted average recall; not every paper gives it.
    pub uar: Option<f64>,
    /// Weighted average recall.
    pub war: f64,
}

/// A dataset's published results.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// Name of the dataset as the paper writes it, with its number of classes.
    pub dataset: &'static str,
    /// Table I: the six structures in their order.
    pub structures: [(f64, f64); 6],
    /// Number of the table of comparisons.
    pub number: &'static str,
    /// Tables II to IV: other methods, the paper's own last.
    pub methods: [Published; 8],
}

/// The paper's row of Table I for a structure: (UAR, WAR) in percent.
pub fn of_structure(tables: &Tables, structure: Structure) -> Option<(f64, f64)> {
    let place = Structure::ALL.iter().position(|s| *s == structure)?;
    Some(tables.structures[place])
}

/// The tables of a dataset by the name that its reader gives it.
pub fn tables(dataset: &str) -> Option<&'static Tables> {
    match dataset {
        "ravdess" => Some(&TABLES[0]),
        "crema-d" => Some(&TABLES[1]),
        "mead" => Some(&TABLES[2]),
        _ => None,
    }
}

const METHODS: [&str; 8] = [
    "VO-LSTM",
    "3D ResNeXt-50",
    "SVFAP",
    "MAE-DFER",
    "MNC",
    "MTL-ER",
    "MTFormer",
    "MTCAE-DFER",
];

const fn rows(values: [(f64, f64); 8]) -> [Published; 8] {
    let mut rows = [Published {
        method: "",
        uar: None,
        war: 0.0,
    }; 8];
    let mut i = 0;
    while i < 8 {
        let (uar, war) = values[i];
        rows[i] = Published {
            method: METHODS[i],
            // The two oldest methods published no UAR.
            uar: if i < 2 { None } else { Some(uar) },
            war,
        };
        i += 1;
    }
    rows
}

/// Tables I to IV of the paper.
const TABLES: [Tables; 3] = [
    Tables {
        dataset: "RAVDESS (7 classes)",
        structures: [
            (72.36, 74.44),
            (75.56, 77.28),
            (81.11, 82.17),
            (75.95, 76.84),
            (80.02, 81.43),
            (82.73, 83.69),
        ],
        number: "II",
        methods: rows([
            (0.0, 60.50),
            (0.0, 62.99),
            (75.15, 75.01),
            (75.91, 75.56),
            (61.81, 61.43),
            (73.54, 74.19),
            (79.40, 79.68),
            (82.73, 83.69),
        ]),
    },
    Tables {
        dataset: "CREMA-D (6 classes)",
        structures: [
            (75.87, 76.21),
            (77.23, 79.89),
            (83.40, 83.67),
            (76.25, 77.55),
            (81.64, 82.38),
            (84.71, 85.03),
        ],
        number: "III",
        methods: rows([
            (0.0, 66.80),
            (0.0, 69.14),
            (77.31, 77.37),
            (77.33, 77.38),
            (67.93, 68.57),
            (74.45, 75.62),
            (79.34, 80.74),
            (84.71, 85.03),
        ]),
    },
    Tables {
        dataset: "MEAD (8 classes)",
        structures: [
            (77.83, 79.61),
            (81.40, 82.14),
            (84.75, 86.57),
            (79.12, 80.93),
            (84.03, 84.74),
            (87.51, 88.44),
        ],
        number: "IV",
        methods: rows([
            (0.0, 68.87),
            (0.0, 72.56),
            (80.04, 80.23),
            (80.71, 80.95),
            (70.82, 70.16),
            (77.26, 78.36),
            (84.03, 84.74),
            (87.51, 88.44),
        ]),
    },
];
