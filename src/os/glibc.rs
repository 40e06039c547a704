//! Leaves a third of a megabyte of glibc, which k1s never uses, out of the static binary.
//!
//! ```text
//! malloc ── statistics ──► stdio ──► wide characters ──► locales ──► iconv ──► dlopen
//! start-up, dlopen ── a failed check ──► stdio, translations ──► locales …
//! std ── where the main stack ends ──► sscanf ──► floating point, 128 bits of it
//! ```
//!
//! The linker takes all of that from `libc.a` for functions that k1s never calls. Each symbol below
//! replaces one where such a chain begins, because the linker does not look for a defined symbol
//! in an archive. They are weak: if another glibc needs the original for another reason, that wins,
//! and the binary is larger, but not wrong. `ld.lld --why-extract=FILE` says what needs what.
//!
//! What is lost: `malloc_stats` and `malloc_info` print nothing, the C locale converts no wide
//! characters (Rust never uses libc for that), and a stack overflow ends in SIGSEGV without the
//! message of std.

use std::arch::global_asm;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use nix::errno::Errno;
use nix::libc;

#[cfg(target_arch = "x86_64")]
macro_rules! stand_in {
    ($name:literal, $by:ident) => {
        global_asm!(concat!(".weak ", $name, "\n", $name, ": jmp {}"), sym $by);
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! stand_in {
    ($name:literal, $by:ident) => {
        global_asm!(concat!(".weak ", $name, "\n", $name, ": b {}"), sym $by);
    };
}

stand_in!("__assert_fail", assert_fail);
stand_in!("__strerror_r", strerror_r);
stand_in!("pthread_getattr_np", pthread_getattr_np);
stand_in!("fprintf", print_nothing);
stand_in!("fwrite", print_nothing);
stand_in!("_IO_fputs", print_nothing);

// Two pointers, both null: what malloc_stats prints to, and how wide characters of the C locale
// are converted.
global_asm!(
    ".weak stderr, __wcsmbs_gconv_fcts_c",
    ".section .bss.stand_ins, \"aw\", %nobits",
    ".balign 8",
    "stderr: .zero 8",
    "__wcsmbs_gconv_fcts_c: .zero 8",
    ".text",
);

/// Replaces `malloc_stats` and the like, which nothing calls.
extern "C" fn print_nothing() -> c_int {
    0
}

/// A check in glibc has failed: says which, and aborts, as in assert(3).
extern "C" fn assert_fail(
    assertion: *const c_char,
    _file: *const c_char,
    _line: c_uint,
    _function: *const c_char,
) -> ! {
    for text in [c"k1s: glibc: failed: ".as_ptr(), assertion, c"\n".as_ptr()] {
        // SAFETY: assert(3) passes a C string; write(2) reads as many bytes as it has.
        unsafe {
            let text = CStr::from_ptr(text);
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast::<c_void>(), text.count_bytes());
        }
    }
    std::process::abort()
}

/// glibc's strerror_r(3), in English: fills `buffer` and returns it. `io::Error` of std calls it
/// through the POSIX variant, which takes what is in `buffer`.
extern "C" fn strerror_r(errno: c_int, buffer: *mut c_char, size: usize) -> *mut c_char {
    let text = Errno::from_raw(errno).desc();
    let length = text.len().min(size.saturating_sub(1));
    if size > 0 {
        // SAFETY: the caller's buffer has `size` bytes, more than `length`.
        unsafe {
            buffer.copy_from_nonoverlapping(text.as_ptr().cast(), length);
            *buffer.add(length) = 0;
        }
    }
    buffer
}

/// std asks for the end of the main thread's stack, to recognise an overflow. It can do without.
extern "C" fn pthread_getattr_np() -> c_int {
    libc::ENOSYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_described_in_as_many_bytes_as_there_are() {
        let check = |errno, size: usize, expected: &CStr| {
            let mut buffer = [0x7f as c_char; 32];
            let returned = strerror_r(errno, buffer.as_mut_ptr(), size);
            assert_eq!(returned, buffer.as_mut_ptr());
            assert!(buffer.iter().skip(size).all(|byte| *byte == 0x7f));
            let bytes: Vec<u8> = buffer.iter().take(size).map(|byte| *byte as u8).collect();
            assert_eq!(CStr::from_bytes_until_nul(&bytes), Ok(expected));
        };
        check(libc::ENOENT, 32, c"No such file or directory");
        check(libc::ENOENT, 26, c"No such file or directory");
        check(libc::ENOENT, 8, c"No such");
        check(libc::EPERM, 1, c"");
        check(-1, 32, c"Unknown errno");
    }

    #[test]
    fn what_std_says_of_an_error_comes_through() {
        let said = std::io::Error::from_raw_os_error(libc::EACCES).to_string();
        assert_eq!(said, "Permission denied (os error 13)");
    }
}
