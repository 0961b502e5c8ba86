//! Cleaning up after a test process, however it ends: statics are not dropped at its exit, and nothing at all is when it is
//! killed. A shell waits for the end of a pipe that only the test process holds, then runs one command.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Runs its command when it is dropped, or when the process that made it has ended.
pub struct Guard(Child);

impl Guard {
    /// In a process group of its own: what ends the test's group is not to end the guard before its work.
    pub fn new(program: &str, arguments: &[&str]) -> Self {
        let script = "trap '' INT TERM HUP; cat >/dev/null; exec \"$@\"";
        let child = Command::new("sh")
            .args(["-c", script, "guard", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        Self(child)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
