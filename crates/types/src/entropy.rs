/// Where random bytes come from; passed in, so that a test can choose them.
pub trait Entropy: Send {
    /// Fills `out` with bytes that nobody can predict.
    fn fill(&mut self, out: &mut [u8]);
}
