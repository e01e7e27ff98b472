//! What ranks tell each other, and how a rank that fails ends the others' waiting.

use mtcae_ranks::{Error, Group, Solo, Threads, agree, barrier, broadcast, gather, together};

fn on_ranks<T: Send>(size: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let ranks: Vec<_> = Threads::new(size)
            .into_iter()
            .map(|rank| scope.spawn(|| work(rank)))
            .collect();
        let ended = ranks.into_iter().map(|r| r.join().expect("no panic"));
        ended.collect()
    })
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(own).collect()
}

#[test]
fn all_hear_what_each_says_and_what_the_first_says() {
    let heard = on_ranks(3, |rank| {
        let own = vec![rank.rank() as u8; rank.rank() * 2];
        barrier(&rank).expect("all are here");
        let all = gather(&rank, own).expect("gathered");
        let word = (rank.rank() == 0).then(|| b"begin".to_vec());
        let first = broadcast(&rank, word).expect("told");
        (all.iter().map(|b| b.to_vec()).collect::<Vec<_>>(), first)
    });
    for (all, first) in heard {
        assert_eq!(all, [vec![], vec![1; 2], vec![2; 4]]);
        assert_eq!(**first, *b"begin");
    }
    let alone = broadcast(&Solo, Some(vec![7])).expect("told");
    assert_eq!(**alone, [7]);
}

#[test]
fn exchanges_under_way_at_once_are_not_mixed_up() {
    let heard = on_ranks(2, |rank| {
        let send = |byte: u8| {
            let block = std::sync::Arc::new(vec![byte + rank.rank() as u8]);
            rank.exchange(vec![block; 2], vec![1; 2]).expect("begun")
        };
        let (a, b) = (send(10), send(20));
        let b = b.wait().expect("came");
        let a = a.wait().expect("came");
        [&a[1 - rank.rank()], &b[1 - rank.rank()]].map(|block| block[0])
    });
    assert_eq!(heard, [[11, 21], [10, 20]]);
}

#[test]
fn ranks_that_differ_name_the_field_and_the_rank() {
    let said = on_ranks(3, |rank| {
        let lr = if rank.rank() == 2 { "0.1" } else { "0.2" };
        agree(&rank, &fields(&[("labels", "abc"), ("config.lr", lr)]))
            .expect_err("differs")
            .to_string()
    });
    assert!(
        said.iter()
            .all(|s| s == "rank 2: not the same config.lr as rank 0 (0.1, not 0.2)"),
        "{said:?}"
    );
    let said = on_ranks(2, |rank| {
        let more = [("a", "1"), ("b", "2")];
        let own = if rank.rank() == 0 {
            &more[..]
        } else {
            &more[..1]
        };
        agree(&rank, &fields(own)).expect_err("differs").to_string()
    });
    assert_eq!(said, ["rank 1: not the same b as rank 0"; 2]);
    let same = on_ranks(2, |rank| agree(&rank, &fields(&[("a", "1")])));
    assert_eq!(same, [Ok(()), Ok(())]);
    assert_eq!(agree(&Solo, &[]), Ok(()));
}

#[test]
fn a_fault_of_one_rank_is_heard_by_all() {
    let said = on_ranks(3, |rank| {
        let outcome = match rank.rank() {
            1 => Err(Error::Deal("clips/x.mp4: no such file".to_owned())),
            r => Ok(r),
        };
        together(&rank, outcome, ToString::to_string).expect_err("one has failed")
    });
    let reason = "clips/x.mp4: no such file".to_owned();
    let heard = Error::Stopped {
        rank: 1,
        reason: reason.clone(),
    };
    assert_eq!(said, [heard.clone(), Error::Deal(reason), heard]);
    assert_eq!(said[0].to_string(), "rank 1: clips/x.mp4: no such file");
    let well = on_ranks(2, |rank| {
        together(&rank, Ok::<_, Error>(rank.rank()), ToString::to_string)
    });
    assert_eq!(well, [Ok(0), Ok(1)]);
}

#[test]
fn whoever_waits_for_a_rank_that_fails_or_goes_is_told() {
    let said = on_ranks(2, |rank| match rank.rank() {
        0 => gather(&rank, Vec::new()).expect_err("failed").to_string(),
        _ => {
            assert!(rank.fail("the disk is full"));
            String::new()
        }
    });
    assert_eq!(said[0], "rank 1: the disk is full");
    let said = on_ranks(2, |rank| match rank.rank() {
        0 => gather(&rank, Vec::new()).expect_err("gone").to_string(),
        _ => String::new(),
    });
    assert_eq!(
        said[0],
        "rank 1 has ended while the others were waiting for it"
    );
}

#[test]
fn what_all_fail_at_is_said_once() {
    let ranks = Threads::new(3);
    let says: Vec<bool> = ranks.iter().map(|r| r.fail("no such file")).collect();
    assert_eq!(says, [true, false, false]);
    let ranks = Threads::new(2);
    let says = [ranks[0].fail("one thing"), ranks[1].fail("another")];
    assert_eq!(says, [true, true]);
}

#[test]
fn a_message_of_another_length_is_refused() {
    let said = on_ranks(2, |rank| {
        let block = std::sync::Arc::new(vec![0; 3]);
        let length = if rank.rank() == 0 { 4 } else { 3 };
        let pending = rank.exchange(vec![block; 2], vec![3, length]);
        pending.expect("begun").wait().map(|_| ())
    });
    let error = said[0].clone().expect_err("3 bytes, not 4");
    assert_eq!(
        error.to_string(),
        "rank 1 sent 3 bytes, not 4: are all ranks of one build?"
    );
    assert!(Solo.exchange(Vec::new(), Vec::new()).is_err());
}
