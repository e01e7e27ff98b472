//! Label files that the programs of commit e3dce91 wrote (`fixtures/e3dce91`): each
//! line is read, and would be written the same.

use mtcae_labels::labels::LabelReader;

#[test]
fn label_files_have_equal_content() {
    let set = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/e3dce91");
    for (name, clips, faces) in [("labels.jsonl", 1, 3), ("clips/labels.jsonl", 16, 80)] {
        let path = format!("{set}/{name}");
        let text = std::fs::read_to_string(&path).expect("a label file");
        let read = LabelReader::open(&path).expect("opened");
        let read: Vec<_> = read.map(|clip| clip.expect("a clip")).collect();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(read.len(), clips);
        for (clip, line) in read.iter().zip(lines) {
            assert_eq!(serde_json::to_string(clip).expect("JSON"), line);
        }
        let tracks = read.iter().flat_map(|clip| &clip.tracks);
        assert_eq!(tracks.map(|t| t.faces.len()).sum::<usize>(), faces);
    }
}
