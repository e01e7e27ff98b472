//! What figures are measured on: the CPU, the instruction set in use, the threads, and
//! what registers alone reach on one thread and on all. The comparisons in
//! `benches/peers` print it above their tables.
//!
//! `cargo run --release -p mtcae-benches --example machine`

#[expect(clippy::print_stdout, reason = "a program whose output is figures")]
fn main() -> Result<(), String> {
    for line in mtcae_benches::machine::lines().map_err(|e| e.to_string())? {
        println!("{line}");
    }
    Ok(())
}
