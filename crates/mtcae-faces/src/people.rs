//! Who is who over a whole video: tracks joined over gaps, turns and cuts.
//!
//! [`tracks`](crate::tracks) end where a face is not found for a while: its owner turns
//! away, is hidden, or the picture cuts to somebody else and back. Tracks that are never
//! seen together are one person where the second begins near enough to where the first
//! ended, and what is around the faces looks alike: the colours of face, hair and
//! clothes, within this one video. A face itself is not recognised.

use std::ops::Range;

use mtcae_core::{Face, Track};
use ndarray::ArrayView3;

use crate::Error;
use crate::tracks::{TrackConfig, link};

/// Bins of a [`Look`] for each of red, green and blue.
const LEVELS: usize = 6;
/// Points of a [`Look`] along each side.
const POINTS: usize = 32;

/// What a face and its surroundings look like: how often each colour comes, in parts of
/// 65,535.
#[derive(Clone, Debug, PartialEq)]
pub struct Look(Box<[u16]>);

impl Look {
    /// The look of a face in a picture (H, W, 3) in RGB, in whose pixels the face is:
    /// of the face and what is half a face beside and above and a whole one below it.
    pub fn of(picture: ArrayView3<'_, u8>, face: &Face) -> Self {
        let [x1, y1, x2, y2] = face.face_box.corners();
        let (w, h) = (x2 - x1, y2 - y1);
        Self::of_part(picture, [x1 - 0.5 * w, y1 - 0.5 * h, 2.0 * w, 2.5 * h])
    }

    /// The look of a whole picture.
    pub fn of_all(picture: ArrayView3<'_, u8>) -> Self {
        let (height, width, _) = picture.dim();
        Self::of_part(picture, [0.0, 0.0, width as f32, height as f32])
    }

    /// The look of what of a rectangle of x, y, width and height is in the picture.
    fn of_part(picture: ArrayView3<'_, u8>, [x, y, w, h]: [f32; 4]) -> Self {
        let (height, width, _) = picture.dim();
        let mut bins = vec![0u32; LEVELS * LEVELS * LEVELS];
        let mut count = 0;
        let at = |low: f32, span: f32, i: usize, size: usize| {
            let place = (low + span * (i as f32 + 0.5) / POINTS as f32).floor();
            (place >= 0.0 && place < size as f32).then_some(place as usize)
        };
        for i in 0..POINTS {
            let Some(y) = at(y, h, i, height) else {
                continue;
            };
            for j in 0..POINTS {
                let Some(x) = at(x, w, j, width) else {
                    continue;
                };
                let bin = (0..3).fold(0, |bin, c| bin * LEVELS + level(picture[[y, x, c]]));
                bins[bin] += 1;
                count += 1;
            }
        }
        let part = |n: u32| (n * u32::from(u16::MAX) / count.max(1)) as u16;
        Self(bins.into_iter().map(part).collect())
    }

    /// How alike two looks are, from 0 to 1: the part of the colours that they share.
    pub fn likeness(&self, other: &Self) -> f32 {
        let shared = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(a, b)| u32::from(*a.min(b)));
        shared.sum::<u32>() as f32 / f32::from(u16::MAX)
    }
}

/// Which bin a level is in: narrow ones for dark levels, where most pictures are.
fn level(value: u8) -> usize {
    let root = (f32::from(value) / 256.0).sqrt();
    (root * LEVELS as f32) as usize
}

/// A face with what it looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The face.
    pub face: Face,
    /// Its surroundings.
    pub look: Look,
}

/// What is seen in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Seconds from the start.
    pub time: f64,
    /// The faces.
    pub faces: Vec<Sighting>,
    /// The whole picture.
    pub look: Look,
}

/// How tracks are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeopleConfig {
    /// How faces are linked into tracks first.
    pub tracks: TrackConfig,
    /// Likeness of whole pictures below which there is a cut between them.
    pub cut: f32,
    /// Likeness from which tracks are one person wherever they are.
    pub alike: f32,
    /// Likeness from which tracks are one person when the second begins near the first,
    /// without a cut between.
    pub similar: f32,
    /// How far is near: this many sides of the face, and as many more for each second
    /// between the two.
    pub near: f32,
    /// How much larger one face may be than the other.
    pub growth: f32,
}

impl Default for PeopleConfig {
    /// As measured on videos of one person and of several.
    fn default() -> Self {
        Self {
            tracks: TrackConfig::default(),
            cut: 0.5,
            alike: 0.7,
            similar: 0.4,
            near: 1.5,
            growth: 2.0,
        }
    }
}

/// One person: the tracks that are theirs, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// Tracks that no frame has two of.
    pub tracks: Vec<Track>,
}

impl Person {
    /// The face at a frame.
    pub fn at(&self, frame: usize) -> Option<&Face> {
        self.tracks.iter().find_map(|track| track.at(frame))
    }

    /// Whether the detector found the face in a frame.
    pub fn is_seen(&self, frame: usize) -> bool {
        self.at(frame).is_some_and(Face::is_detected)
    }

    /// Frames in which the face was found.
    pub fn detected(&self) -> usize {
        self.tracks.iter().map(Track::detected).sum()
    }

    /// Mean area of the boxes found, in square pixels.
    pub fn mean_area(&self) -> f64 {
        let sum: f64 = self
            .tracks
            .iter()
            .map(|t| t.mean_area() * t.detected() as f64)
            .sum();
        sum / self.detected().max(1) as f64
    }
}

/// The people in frames whose times grow, in the order in which they appear, of those who
/// appear together the largest face first. Their tracks' frames count through `frames`.
///
/// # Errors
/// [`Error::Config`] as [`link`].
pub fn people(frames: &[Scene], config: &PeopleConfig) -> Result<Vec<Person>, Error> {
    // Nobody is followed through a cut.
    let mut shots: Vec<Range<usize>> = Vec::new();
    for i in 0..frames.len() {
        let goes_on = i > 0 && frames[i - 1].look.likeness(&frames[i].look) >= config.cut;
        match shots.last_mut().filter(|_| goes_on) {
            Some(shot) => shot.end = i + 1,
            None => shots.push(i..i + 1),
        }
    }
    let mut tracks: Vec<Track> = Vec::new();
    let mut shot_of: Vec<usize> = Vec::new();
    for (number, shot) in shots.into_iter().enumerate() {
        let first = shot.start;
        let frames = &frames[shot];
        let times: Vec<f64> = frames.iter().map(|scene| scene.time).collect();
        let faces: Vec<Vec<Face>> = frames
            .iter()
            .map(|scene| scene.faces.iter().map(|s| s.face).collect())
            .collect();
        for mut track in link(&faces, &times, &config.tracks)? {
            track.id = tracks.len() as u32;
            track.first += first;
            tracks.push(track);
            shot_of.push(number);
        }
    }
    let looks: Vec<Look> = tracks.iter().map(|track| look(track, frames)).collect();

    // The most alike first, so that of two who could go on with a track the right one
    // does.
    let mut pairs = Vec::new();
    for (a, first) in tracks.iter().enumerate() {
        for (b, second) in tracks.iter().enumerate().skip(a + 1) {
            if overlap(first, second) {
                continue;
            }
            let likeness = looks[a].likeness(&looks[b]);
            let continued = || {
                shot_of[a] == shot_of[b]
                    && likeness >= config.similar
                    && is_near(first, second, frames, config)
            };
            if likeness >= config.alike || continued() {
                pairs.push((likeness, a, b));
            }
        }
    }
    pairs.sort_by(|p, q| q.0.total_cmp(&p.0).then((p.1, p.2).cmp(&(q.1, q.2))));
    let mut owner: Vec<usize> = (0..tracks.len()).collect();
    let mut members: Vec<Vec<usize>> = owner.iter().map(|&t| vec![t]).collect();
    for (_, a, b) in pairs {
        let (p, q) = (owner[a].min(owner[b]), owner[a].max(owner[b]));
        let of_both = || {
            members[p]
                .iter()
                .flat_map(|i| members[q].iter().map(move |j| (*i, *j)))
        };
        if p == q || of_both().any(|(i, j)| overlap(&tracks[i], &tracks[j])) {
            continue;
        }
        let joined = std::mem::take(&mut members[q]);
        joined.iter().for_each(|&t| owner[t] = p);
        members[p].extend(joined);
    }
    let mut people: Vec<Person> = Vec::new();
    let mut number = vec![None; tracks.len()];
    for (track, owner) in tracks.into_iter().zip(owner) {
        let n = *number[owner].get_or_insert_with(|| {
            people.push(Person { tracks: Vec::new() });
            people.len() - 1
        });
        people[n].tracks.push(track);
    }
    Ok(people)
}

/// The mean look of a track's faces.
fn look(track: &Track, frames: &[Scene]) -> Look {
    let mut sum = vec![0u64; LEVELS * LEVELS * LEVELS];
    let mut count = 0;
    for (face, frame) in track.faces.iter().zip(&frames[track.first..]) {
        let seen = frame
            .faces
            .iter()
            .filter(|_| face.is_detected())
            // Smoothing may have moved the box.
            .min_by(|a, b| apart(&a.face, face).total_cmp(&apart(&b.face, face)));
        if let Some(sighting) = seen {
            count += 1;
            sum.iter_mut()
                .zip(&sighting.look.0)
                .for_each(|(s, l)| *s += u64::from(*l));
        }
    }
    let mean = |sum: u64| (sum / count.max(1)) as u16;
    Look(sum.into_iter().map(mean).collect())
}

/// How far two boxes' edges are apart, all together.
fn apart(a: &Face, b: &Face) -> f32 {
    let corners = a.face_box.corners().into_iter().zip(b.face_box.corners());
    corners.map(|(p, q)| (p - q).abs()).sum()
}

/// Whether a track begins where another one ended not long ago.
fn is_near(first: &Track, second: &Track, frames: &[Scene], config: &PeopleConfig) -> bool {
    let (Some(last), Some(next)) = (first.faces.last(), second.faces.first()) else {
        return false;
    };
    let side = |f: &Face| f.face_box.area().max(1.0).sqrt();
    let (a, b) = (side(last), side(next));
    let centre = |f: &Face| {
        let [x1, y1, x2, y2] = f.face_box.corners();
        [(x1 + x2) / 2.0, (y1 + y2) / 2.0]
    };
    let (p, q) = (centre(last), centre(next));
    let distance = (p[0] - q[0]).hypot(p[1] - q[1]) / ((a + b) / 2.0);
    let seconds = (frames[second.first].time - frames[first.end() - 1].time) as f32;
    second.first >= first.end()
        && distance <= config.near * (1.0 + seconds)
        && a.max(b) <= config.growth * a.min(b)
}

/// Whether two tracks have a frame in common.
fn overlap(a: &Track, b: &Track) -> bool {
    a.first < b.end() && b.first < a.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A face at x, whose surroundings have one colour.
    fn sighting(x: f32, level: u8) -> Sighting {
        let picture = ndarray::Array3::from_elem((100, 400, 3), level);
        let face = Face {
            face_box: [x, 30.0, x + 20.0, 50.0].into(),
            landmarks: [[x + 5.0, 40.0]; 5].into(),
            score: 0.9,
        };
        let look = Look::of(picture.view(), &face);
        Sighting { face, look }
    }

    /// Frames of one scene, four a second.
    fn scenes(frames: &[Vec<Sighting>]) -> Vec<Scene> {
        let look = sighting(0.0, 90).look;
        let scene = |(i, faces): (usize, &Vec<Sighting>)| Scene {
            time: i as f64 / 4.0,
            faces: faces.clone(),
            look: look.clone(),
        };
        frames.iter().enumerate().map(scene).collect()
    }

    fn counted(scenes: &[Scene]) -> Vec<usize> {
        let people = people(scenes, &PeopleConfig::default()).unwrap();
        people.iter().map(Person::detected).collect()
    }

    #[test]
    fn somebody_who_turns_away_and_moves_is_one() {
        let mut frames = vec![Vec::new(); 20];
        for frame in &mut frames[..5] {
            frame.push(sighting(100.0, 90));
        }
        for frame in &mut frames[14..] {
            frame.push(sighting(130.0, 90));
        }
        assert_eq!(counted(&scenes(&frames)), [11]);
    }

    /// MTCNN's scores saturate: who a face belongs to is told by where it is.
    #[test]
    fn looks_are_told_apart_where_scores_are_not() {
        let mut frames = vec![Vec::new(); 20];
        for (i, frame) in frames.iter_mut().enumerate() {
            frame.push(sighting(100.0, 90));
            match i {
                0..6 => frame.push(sighting(200.0, 200)),
                14.. => frame.push(sighting(300.0, 30)),
                _ => {}
            }
        }
        assert_eq!(counted(&scenes(&frames)), [20, 6, 6]);
    }

    #[test]
    fn two_who_are_seen_together_are_two_however_alike() {
        let mut frames = vec![Vec::new(); 20];
        for frame in &mut frames {
            frame.push(sighting(100.0, 90));
        }
        for i in (0..5).chain(15..20) {
            frames[i].push(sighting(200.0, 90));
        }
        assert_eq!(counted(&scenes(&frames)), [20, 10]);
    }

    /// In the same place, so that positions alone would make one person of the two.
    #[test]
    fn a_cut_to_somebody_else_and_back_makes_two() {
        let mut frames = vec![Vec::new(); 24];
        for (i, frame) in frames.iter_mut().enumerate() {
            frame.push(sighting(100.0, if i / 8 == 1 { 200 } else { 90 }));
        }
        let mut scenes = scenes(&frames);
        for scene in &mut scenes[8..16] {
            scene.look = sighting(0.0, 200).look;
        }
        assert_eq!(counted(&scenes), [16, 8]);
        let people = people(&scenes, &PeopleConfig::default()).unwrap();
        assert!(people[0].is_seen(20) && people[0].at(10).is_none());
    }

    #[test]
    fn a_look_counts_what_is_in_the_picture() {
        let face = sighting(-5.0, 90);
        assert!((face.look.likeness(&face.look) - 1.0).abs() < 1e-3);
        let outside = sighting(900.0, 90);
        assert_eq!(face.look.likeness(&outside.look), 0.0);
        assert!((face.look.likeness(&sighting(20.0, 90).look) - 1.0).abs() < 1e-3);
    }
}
