//! Tells Callgrind when to count. Without it these are a few instructions that do nothing.
//!
//! Valgrind recognises a sequence that no compiler emits: four rotations of a register which together leave it as it
//! was, then an exchange of another with itself. It reads the request from where `rax` points
//! (`valgrind.h`, `callgrind.h`: stable since 2002).

/// `CALLGRIND_START_INSTRUMENTATION`: "CT" in the upper half, the request's number in the lower.
const START: u64 = 0x4354_0004;
/// `CALLGRIND_STOP_INSTRUMENTATION`.
const STOP: u64 = 0x4354_0005;

/// All threads are counted from here on.
pub(crate) fn start() {
    request(START);
}

/// Nothing is counted any more.
pub(crate) fn stop() {
    request(STOP);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn request(number: u64) {
    let request = [number, 0, 0, 0, 0, 0];
    // SAFETY: outside of Valgrind the sequence changes no register but the flags; inside, Valgrind reads the six words
    // that `rax` points to, which live until it returns, and answers in `rdx`.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") 0_u64 => _,
            inout("rdi") 0_u64 => _,
        );
    }
}

/// Elsewhere Valgrind's sequence is another one; the table is one of x86-64.
#[cfg(not(target_arch = "x86_64"))]
fn request(_number: u64) {}
