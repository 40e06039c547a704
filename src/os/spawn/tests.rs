//! Tests with real processes, each waited for by its pid, since tests are threads of one process.

use super::*;
use crate::job::ExitStatus;
use crate::job::spec::{Resource, ResourceLimit};
use crate::os::failure::MOST_ERROR_BYTES;
use crate::os::pipe::captured;
use crate::os::testing::*;
use crate::os::{prepare, signals};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::dup3;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A directory for one test.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("k1s-os-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Lets another process write the file. If this one did, children of other tests would get a copy
/// of its descriptor, and execve returns ETXTBSY while that is open.
fn write(path: PathBuf, text: &str, mode: &str) -> String {
    let path = path.to_str().unwrap().to_owned();
    let script = r#"printf %s "$1" > "$2" && chmod "$3" "$2""#;
    let status =
        std::process::Command::new("sh").args(["-c", script, "sh", text, &path, mode]).status();
    assert!(status.unwrap().success());
    path
}

#[test]
fn a_run_starts_clean() {
    in_own_process("os::spawn::tests::a_run_starts_clean", || {
        for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGUSR1] {
            // SAFETY: ignoring a signal runs no code.
            unsafe { signal(ignored, SigHandler::SigIgn) }.unwrap();
        }
        // SAFETY: as above; nix knows no realtime signals.
        unsafe { libc::signal(40, libc::SIG_IGN) };
        SigSet::from(Signal::SIGUSR2).thread_block().unwrap();
        for number in [3, 77] {
            // SAFETY: takes two numbers; it is not close-on-exec.
            unsafe { libc::dup2(0, number) };
        }
        let startup = prepare();
        assert_eq!(startup.notes, Vec::<String>::new());
        let mut spawner = Spawner::new(&startup).unwrap();
        let _signals = signals::install(signals::Audience::Init).unwrap();
        for shares_descriptors in [true, false] {
            spawner.shares_descriptors = shares_descriptors;
            check_clean(&mut spawner);
        }
    });
}

fn check_clean(spawner: &mut Spawner) {
    let status = stdout_of(spawner, &command("cat", &["/proc/self/status"]));
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        assert!(status.contains(&format!("{field}:\t0000000000000000\n")), "{status}");
    }
    // The descriptor 3 is that of the directory which ls reads.
    assert_eq!(stdout_of(spawner, &command("ls", &["/proc/self/fd"])), "0\n1\n2\n3\n");
    let links = ["/proc/self/fd/0"];
    assert_eq!(stdout_of(spawner, &command("readlink", &links)), "/dev/null\n");
    let spawned = spawn(spawner, &command("cat", &["/proc/self/stat"])).unwrap();
    let stat = read_all(spawned.output.stdout);
    let fields: Vec<&str> = stat.split(' ').collect();
    let pid = spawned.pid.0.to_string();
    // pid, group, session; no controlling terminal.
    assert_eq!([fields[0], fields[4], fields[5], fields[6]], [&*pid, &*pid, &*pid, "0"]);
    assert_eq!(wait(spawned.pid), ExitStatus::Code(0));
    let environment = stdout_of(spawner, &command("env", &[]));
    let own = environment.lines().filter(|line| line.starts_with("K1S_"));
    assert_eq!(own.collect::<Vec<_>>(), ["K1S_JOB=job", "K1S_RUN=instance.job.1"]);
}

/// The descriptor that a run reports on may have any number, also that of one that k1s has open.
#[test]
fn a_run_gets_one_descriptor_more_if_it_is_asked_for() {
    in_own_process("os::spawn::tests::a_run_gets_one_descriptor_more_if_it_is_asked_for", || {
        let mut spawner = Spawner::new(&prepare()).unwrap();
        let _many: Vec<_> = (0..50).map(|_| spawner.slots.null.try_clone().unwrap()).collect();
        for shares_descriptors in [true, false] {
            spawner.shares_descriptors = shares_descriptors;
            for number in (3..20).chain([254, 255]) {
                let script =
                    format!("echo /proc/self/fd/* | tr -d a-z/; echo > /proc/self/fd/{number}");
                let (output, reported) = spawn_with_extra(&mut spawner, &shell(&script), number);
                // The first unused one is that of the directory which the shell reads.
                let own = if number == 3 { 4 } else { 3 };
                let mut numbers = [0, 1, 2, number, own];
                numbers.sort_unstable_by_key(i32::to_string);
                let numbers = numbers.map(|number| number.to_string()).join(" ");
                assert_eq!((output.trim(), &*reported), (&*numbers, "\n"), "{number}");
            }
            check_clean(&mut spawner);
        }
    });
}

/// What a command writes to its standard output, and to the descriptor of this number.
fn spawn_with_extra(spawner: &mut Spawner, command: &Command, number: RawFd) -> (String, String) {
    let (output, ends) = captured().unwrap();
    let (reported, report) = captured().map(|(read, write)| (read.stdout, write.stdout)).unwrap();
    let plain = request(command, Output::Captured(ends));
    let pid = spawner.spawn(SpawnRequest { extra: Some((report, number)), ..plain }).unwrap();
    let texts = (read_all(output.stdout), read_all(reported));
    assert_eq!((read_all(output.stderr).as_str(), wait(pid)), ("", ExitStatus::Code(0)));
    texts
}

#[test]
fn a_descriptor_that_cannot_be_had_is_named() {
    in_own_process("os::spawn::tests::a_descriptor_that_cannot_be_had_is_named", || {
        let limit = crate::os::limits::nofile().unwrap();
        let few = libc::rlimit64 { rlim_cur: 64, ..limit };
        crate::os::limits::set_nofile(few).unwrap();
        let mut spawner = spawner();
        let (_output, ends) = captured().unwrap();
        let (_reported, report) = captured().unwrap();
        let command = command("true", &[]);
        let plain = request(&command, Output::Captured(ends));
        let result = spawner.spawn(SpawnRequest { extra: Some((report.stdout, 100)), ..plain });
        let error =
            "descriptor 100, if k1s's own limit of them permits that: Bad file number (EBADF)"
                .to_owned();
        let failure = SpawnFailure { exit_code: 126, error };
        assert_eq!(result, Err(SpawnError::Failed(failure)));
    });
}

fn check_failure(command: &Command, exit_code: u8, error: &str) {
    let error = error.to_owned();
    let failure = SpawnFailure { exit_code, error };
    let result = spawn(&mut spawner(), command).map(|spawned| spawned.pid);
    assert_eq!(result, Err(SpawnError::Failed(failure)), "{command:?}");
}

#[test]
fn an_executable_that_cannot_be_executed_is_named_with_the_reason() {
    let dir = directory("executables");
    let text = write(dir.join("text"), "true\n", "755");
    let plain = write(dir.join("plain"), "#!/bin/sh\n", "644");
    let broken = write(dir.join("broken"), "#!/no/such/interpreter\n", "755");
    let dir = dir.to_str().unwrap();
    for (executable, exit_code, error) in [
        ("/no/such/file", 127, "executable @: No such file or directory (ENOENT)"),
        ("/etc/passwd/x", 127, "executable @: Not a directory (ENOTDIR)"),
        (&broken, 127, "interpreter of @: No such file or directory (ENOENT)"),
        (&text, 126, "executable @: Exec format error (ENOEXEC)"),
        (&plain, 126, "executable @: Permission denied (EACCES)"),
        (dir, 126, "executable @: Permission denied (EACCES)"),
        ("a\0b", 126, "arguments: holds a NUL byte"),
    ] {
        let error = error.replace('@', executable);
        check_failure(&command(executable, &[]), exit_code, &error);
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_executable_that_is_nowhere_is_named_with_the_path() {
    let mut nope = command("nope", &[]);
    nope.environment = [("PATH".into(), "/usr/bin:/nowhere".into())].into();
    let error = "executable nope: not found in PATH /usr/bin:/nowhere";
    check_failure(&nope, 127, error);
    nope.environment.clear();
    nope.clear_environment = true;
    let error = "executable nope: not found in PATH /usr/local/bin:/usr/bin:/bin";
    check_failure(&nope, 127, error);
}

/// A request may contain a megabyte of them, which would suspend k1s for seconds.
#[test]
fn a_path_of_too_many_directories_is_not_searched() {
    let mut nope = command("nope", &[]);
    nope.environment = [("PATH".into(), "/:".repeat(1000))].into();
    check_failure(&nope, 126, "PATH: more than 1000 directories");
}

/// A long one, joined with each directory, would take more memory than there is.
#[test]
fn a_name_that_no_file_can_have_is_not_searched_for() {
    for (length, exit_code, error) in [
        (255, 127, "executable @: not found in PATH /:/etc"),
        (256, 126, "executable @: File name too long (ENAMETOOLONG)"),
    ] {
        let name = "x".repeat(length);
        let mut nope = command(&name, &[]);
        nope.environment = [("PATH".into(), "/:/etc".into())].into();
        check_failure(&nope, exit_code, &error.replace('@', &name));
    }
}

/// That of each run is kept, and only their length is bounded.
#[test]
fn what_is_said_of_a_failure_is_short_however_long_the_names() {
    let long = "€".repeat(200_000);
    let check = |change: fn(&mut Command, String), begin: &str, end: &str| {
        let mut command = command("/true", &[]);
        change(&mut command, long.clone());
        let Err(SpawnError::Failed(SpawnFailure { error, .. })) = spawn(&mut spawner(), &command)
        else {
            unreachable!("it has started");
        };
        assert!(error.starts_with(begin) && error.ends_with(end), "{error:.200}");
        assert!(error.len() <= MOST_ERROR_BYTES + "…".len(), "{}", error.len());
    };
    check(
        |c, long| c.executable = format!("/{long}"),
        "executable /€",
        "€: File name too long (ENAMETOOLONG)",
    );
    check(|c, long| c.user = Some(long), "user €", "€: no such user in /etc/passwd");
}

#[test]
fn a_step_before_the_executable_is_named_with_the_reason() {
    let check = |change: fn(&mut Command), error: &str| {
        let mut command = command("true", &[]);
        change(&mut command);
        check_failure(&command, 126, error);
    };
    let error = "working directory /no/such/dir: No such file or directory (ENOENT)";
    check(|c| c.working_directory = "/no/such/dir".into(), error);
    let error = "working directory /etc/passwd: Not a directory (ENOTDIR)";
    check(|c| c.working_directory = "/etc/passwd".into(), error);
    let error = "user no-such-user: no such user in /etc/passwd";
    check(|c| c.user = Some("no-such-user".into()), error);
    let error = "group no-such-group: no such group in /etc/group";
    check(|c| c.group = Some("no-such-group".into()), error);
    let error = "user 987654: not in /etc/passwd, so its group must be given";
    check(|c| c.user = Some("987654".into()), error);
    let error = "limit nofile: Operation not permitted (EPERM)";
    check(
        |c| {
            c.limits = vec![ResourceLimit { resource: Resource::Nofile, soft: None, hard: None }];
        },
        error,
    );
}

/// A PATH whose directories each contain a different kind of `tool`.
fn path_directory() -> PathBuf {
    let dir = directory("path");
    for sub in ["denied", "broken", "good", "work", "text"] {
        std::fs::create_dir_all(dir.join(sub)).unwrap();
    }
    write(dir.join("denied/tool"), "#!/bin/sh\necho denied\n", "644");
    write(dir.join("denied/only"), "#!/bin/sh\necho denied\n", "644");
    write(dir.join("broken/tool"), "#!/no/such/interpreter\n", "755");
    write(dir.join("good/tool"), "#!/bin/sh\necho good\n", "755");
    write(dir.join("work/tool"), "#!/bin/sh\necho work\n", "755");
    write(dir.join("text/tool"), "echo text\n", "755");
    dir
}

#[test]
fn executables_are_looked_up_as_execvp_does() {
    let dir = path_directory();
    let base = dir.to_str().unwrap();
    let denied = format!("executable {base}/denied/only: Permission denied (EACCES)");
    let broken = format!("interpreter of {base}/broken/tool: No such file or directory (ENOENT)");
    let text = format!("executable {base}/text/tool: Exec format error (ENOEXEC)");
    let none = "executable only: not found in PATH @/good";
    for (executable, path, expected) in [
        ("tool", "@/good", Ok("good\n")),
        ("tool", "/nowhere:/etc/passwd:@/denied:@/broken:@/good", Ok("good\n")),
        ("tool", "", Ok("work\n")),
        ("tool", ":@/good", Ok("work\n")),
        ("tool", "/nowhere:", Ok("work\n")),
        ("./tool", "@/good", Ok("work\n")),
        ("../good/tool", "@/work", Ok("good\n")),
        ("only", "@/denied:@/good", Err((126, &denied[..]))),
        ("tool", "@/broken:/nowhere", Err((127, &broken[..]))),
        ("tool", "@/text:@/good", Err((126, &text[..]))),
        ("only", "@/good", Err((127, none))),
    ] {
        let mut command = command(executable, &[]);
        command.working_directory = format!("{base}/work");
        command.environment = [("PATH".into(), path.replace('@', base))].into();
        let expected =
            expected.map(str::to_owned).map_err(|(code, error)| (code, error.replace('@', base)));
        let result = match spawn(&mut spawner(), &command) {
            Ok(spawned) => {
                let stdout = read_all(spawned.output.stdout);
                assert_eq!(wait(spawned.pid), ExitStatus::Code(0));
                Ok(stdout)
            }
            Err(SpawnError::Failed(failure)) => Err((failure.exit_code, failure.error)),
            Err(SpawnError::Shortage(why)) => panic!("{why}"),
        };
        assert_eq!(result, expected, "{executable} in {path}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn exits_and_deaths_are_told_exactly() {
    let mut spawner = spawner();
    let by = |n| ExitStatus::Signal(crate::job::Signal::from_number(n).unwrap());
    for (script, expected) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 255", ExitStatus::Code(255)),
        ("kill -KILL $$", by(9)),
        ("kill -TERM $$", by(15)),
        ("kill -34 $$", by(34)),
    ] {
        assert_eq!(finish(&mut spawner, &shell(script)).0, expected, "{script}");
    }
}

#[test]
fn the_text_of_stdin_is_whole_and_ends() {
    let mut spawner = spawner();
    for text in ["", "one line\n", &"0123456789abcdef".repeat(65_536)] {
        let mut cat = command("cat", &[]);
        cat.stdin = Some(text.to_owned());
        assert_eq!(stdout_of(&mut spawner, &cat), text);
    }
    let mut cat = shell("cat /dev/stdin; echo x 2>/dev/null >&0 || echo sealed");
    cat.stdin = Some("again\n".to_owned());
    assert_eq!(stdout_of(&mut spawner, &cat), "again\nsealed\n");
}

#[test]
fn umask_nice_limits_and_the_directory_are_the_jobs() {
    let mut spawner = spawner();
    let own = limits::nofile().unwrap();
    spawner.nofile = Some(libc::rlimit64 { rlim_cur: 321, ..own });
    let mut command = shell("umask; nice; ulimit -n; ulimit -Hn; ulimit -c; pwd");
    command.working_directory = "/tmp".into();
    command.umask = Some(0o27);
    command.nice = Some(5);
    let limit = |resource, soft, hard| ResourceLimit { resource, soft, hard };
    command.limits = vec![limit(Resource::Core, Some(0), Some(0))];
    let hard = own.rlim_max;
    let expected = format!("0027\n5\n321\n{hard}\n0\n/tmp\n");
    assert_eq!(stdout_of(&mut spawner, &command), expected);
    command.limits.push(limit(Resource::Nofile, Some(64), Some(128)));
    assert_eq!(stdout_of(&mut spawner, &command), "0027\n5\n64\n128\n0\n/tmp\n");
}

#[test]
fn a_user_comes_with_its_groups_and_home() {
    if !may_become_others("a_user_comes_with_its_groups_and_home") {
        return;
    }
    let mut spawner = spawner();
    let script = "grep -E '^(Uid|Gid|Groups)' /proc/self/status; echo $HOME $USER $LOGNAME; \
        echo err > /dev/stderr 2>&1 && echo opened";
    let mut command = shell(script);
    command.user = Some("nobody".into());
    let (status, stdout, _) = finish(&mut spawner, &command);
    assert_eq!(status, ExitStatus::Code(0));
    let account = user::account("nobody").unwrap();
    let (uid, gid) = (account.uid, account.gid.unwrap());
    let home = &account.home;
    let expected = format!(
        "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\n\
         Groups:\t{gid} \n{home} nobody nobody\nopened\n"
    );
    assert_eq!(stdout, expected);
    command.user = Some("4711".into());
    command.group = Some("4712".into());
    let (_, stdout, _) = finish(&mut spawner, &command);
    assert!(stdout.contains("Uid:\t4711\t"), "{stdout}");
    assert!(stdout.contains("Groups:\t4712 \n/ 4711 4711\n"), "{stdout}");
    command.user = None;
    command.working_directory = "/tmp".into();
    let (_, stdout, _) = finish(&mut spawner, &command);
    assert!(stdout.contains("Uid:\t0\t0\t0\t0\nGid:\t4712\t"), "{stdout}");
}

#[test]
fn a_limit_of_the_jobs_own_is_no_shortage_of_the_machine() {
    if !may_become_others("a_limit_of_the_jobs_own_is_no_shortage_of_the_machine") {
        return;
    }
    let mut spawner = spawner();
    let mut command = shell("read forever");
    command.user = Some("4713".into());
    command.group = Some("4713".into());
    let (soft, hard) = (Some(0), Some(0));
    let resource = Resource::Nproc;
    let limit = ResourceLimit { resource, soft, hard };
    // The limit counts all processes of the user, which has one already.
    let (stdin, hold) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    dup3(&stdin, &mut spawner.slots.null, OFlag::O_CLOEXEC).unwrap();
    let first = spawn(&mut spawner, &command).unwrap();
    command.limits = vec![limit];
    let error = "executable /bin/sh: Try again (EAGAIN)".into();
    let expected = SpawnFailure { exit_code: 126, error };
    let result = spawn(&mut spawner, &command).map(|spawned| spawned.pid);
    drop((stdin, hold));
    assert_eq!(wait(first.pid), ExitStatus::Code(1));
    assert_eq!(result, Err(SpawnError::Failed(expected)));
}

#[test]
fn many_spawns_leak_nothing() {
    in_own_process("os::spawn::tests::many_spawns_leak_nothing", || {
        let mut spawner = spawner();
        let before = open_descriptors();
        for shares_descriptors in [true, false] {
            spawner.shares_descriptors = shares_descriptors;
            for _ in 0..200 {
                let mut cat = command("cat", &[]);
                cat.stdin = Some("text".into());
                assert_eq!(stdout_of(&mut spawner, &cat), "text");
                spawn(&mut spawner, &command("/no/such/file", &[])).unwrap_err();
            }
        }
        assert_eq!(open_descriptors(), before);
        assert_no_children();
    });
}

#[test]
fn without_descriptors_the_machine_is_busy() {
    in_own_process("os::spawn::tests::without_descriptors_the_machine_is_busy", || {
        let mut spawner = spawner();
        let before = open_descriptors();
        let mut cat = command("cat", &[]);
        cat.stdin = Some("text".into());
        // Looking up a user needs a descriptor, too.
        cat.user = may_become_others("looking up a user").then(|| "root".to_owned());
        let mut limit = limits::nofile().unwrap();
        let mut busy = 0;
        // One more free descriptor each time, until there are enough.
        for free in 0.. {
            limit.rlim_cur = u64::from(spawner.slots.end()) + free;
            limits::set_nofile(limit).unwrap();
            match spawn(&mut spawner, &cat) {
                Err(SpawnError::Shortage(why)) => assert!(why.contains("(EMFILE)"), "{why}"),
                Err(other) => panic!("{other:?}"),
                Ok(spawned) => {
                    assert_eq!(wait(spawned.pid), ExitStatus::Code(0));
                    break;
                }
            }
            busy += 1;
        }
        assert!(busy >= 3, "{busy}");
        limit.rlim_cur = limit.rlim_max;
        limits::set_nofile(limit).unwrap();
        assert_eq!(open_descriptors(), before);
        assert_eq!(stdout_of(&mut spawner, &cat), "text");
        assert_no_children();
    });
}

#[test]
fn without_processes_the_machine_is_busy() {
    if !may_become_others("without_processes_the_machine_is_busy") {
        return;
    }
    in_own_process("os::spawn::tests::without_processes_the_machine_is_busy", || {
        let mut spawner = spawner();
        let before = open_descriptors();
        let none = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads an rlimit64; the other takes a number.
        unsafe {
            libc::setrlimit64(libc::RLIMIT_NPROC, &raw const none);
            libc::setuid(4714);
        }
        let result = spawn(&mut spawner, &command("/bin/true", &[])).map(|s| s.pid);
        let why = "clone: Try again (EAGAIN)";
        assert_eq!(result, Err(SpawnError::Shortage(why.into())));
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_sandbox_without_close_range_is_no_obstacle() {
    let failure = |step, errno| Failure { step, errno, index: 0 };
    assert!(is_unknown(failure(Step::Unshare, Errno::ENOSYS)));
    assert!(is_unknown(failure(Step::Unshare, Errno::EPERM)));
    assert!(!is_unknown(failure(Step::Unshare, Errno::ENOMEM)));
    assert!(!is_unknown(failure(Step::Session, Errno::EPERM)));
}

fn assert_no_children() {
    // SAFETY: asks for no status.
    let result = Errno::result(unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) });
    assert_eq!(result, Err(Errno::ECHILD));
}

/// A shortage of the machine is not the job's fault: fork(2), pipe(2), execve(2).
#[test]
fn a_shortage_of_the_machine_is_told_from_a_fault_of_the_job() {
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM, Errno::ENOSPC] {
        let error = SpawnError::at("clone", errno);
        assert!(matches!(error, SpawnError::Shortage(_)), "{error:?}");
    }
    for errno in [Errno::EPERM, Errno::EACCES, Errno::ENOENT, Errno::EINVAL] {
        let error = SpawnError::at("clone", errno);
        assert!(matches!(error, SpawnError::Failed(_)), "{error:?}");
    }
}

/// fcntl(2), F_SETLEASE: execve would wait for the holder, up to 45 s.
#[test]
fn an_executable_with_a_lease_is_tried_again_later() {
    in_own_process("os::spawn::tests::an_executable_with_a_lease_is_tried_again_later", || {
        // SAFETY: ignoring a signal runs no code; the holder of a lease is notified by SIGIO.
        unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
        let directory = directory("lease");
        let program = write(directory.join("program"), "#!/bin/sh\necho ran\n", "755");
        let script = write(directory.join("script"), &format!("#! {program}\n"), "755");
        let mut spawner = spawner();
        let file = std::fs::File::open(&program).unwrap();
        let lease = |what: libc::c_int| {
            // SAFETY: takes numbers alone.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, what) }
        };
        if lease(libc::F_WRLCK) == -1 {
            let errno = Errno::last();
            return eprintln!("SKIPPED: no lease can be had here: {errno}");
        }
        for executable in [&program, &script] {
            match spawn(&mut spawner, &command(executable, &[])) {
                Err(SpawnError::Shortage(error)) => assert!(error.contains("lease"), "{error}"),
                other => panic!("{executable}: {other:?}"),
            }
        }
        assert_eq!(lease(libc::F_UNLCK), 0);
        assert_eq!(stdout_of(&mut spawner, &command(&program, &[])), "ran\n");
        let fifo = directory.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        match spawn(&mut spawner, &command(fifo.to_str().unwrap(), &[])) {
            Err(SpawnError::Failed(failure)) => assert_eq!(failure.exit_code, 126),
            other => panic!("a FIFO: {other:?}"),
        }
        std::fs::remove_dir_all(directory).unwrap();
    });
}
