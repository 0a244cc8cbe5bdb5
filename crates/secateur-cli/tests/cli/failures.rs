//! Disks that are full, folders that may not be written to, and ends in the middle: the old file
//! stays, and nothing else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Folder, Ran, folder_with};

/// Shells that may mount: as root, or as one in a namespace of its own.
const MOUNTING: [&[&str]; 2] =
    [&["unshare", "--mount", "sh"], &["unshare", "--user", "--map-root-user", "--mount", "sh"]];

fn old_files() -> Folder {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    fs::create_dir(folder.path("out")).unwrap();
    folder.write("out/out.onnx", b"precious");
    folder.write("out/plan.json", b"precious");
    folder
}

/// Runs the command with a small disk at `out`, or `None` where none can be mounted.
fn on_small_disk(folder: &Folder, options: &str, line: &str) -> Option<Ran> {
    let script = format!(
        "mount -t tmpfs tmpfs out || exit 99
        printf precious > out/out.onnx; printf precious > out/plan.json
        mount -o remount,{options} out || exit 99
        $SECATEUR {line}; code=$?
        grep -l precious out/*; ls -A out; exit $code"
    );
    let mut ran = MOUNTING.iter().map(|shell| folder.script(shell, &script));
    ran.find(|ran| ran.code != 99 && !ran.stderr.contains("unshare"))
}

const PRUNE: &str = "prune model.onnx -o out/out.onnx --plan out/plan.json --ratio 0.1 --quiet";

fn check_untouched(ran: &Ran, why: &str) {
    assert!(ran.stderr.contains(why) && ran.stderr.contains("hint: "), "{ran:?}");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.stdout, "out/out.onnx\nout/plan.json\nout.onnx\nplan.json\n");
}

/// As `check_untouched`, of files that are still there.
fn check_still(folder: &Folder, ran: &Ran, why: &str) {
    let same = ["out/out.onnx", "out/plan.json"];
    let same = same.into_iter().filter(|name| folder.read(name) == b"precious");
    let lines: Vec<String> = same.map(String::from).chain(names(&folder.path("out"))).collect();
    let stdout = lines.join("\n") + "\n";
    check_untouched(&Ran { code: ran.code, stdout, stderr: ran.stderr.clone() }, why);
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_the_old_files() {
    let folder = old_files();
    if let Some(ran) = on_small_disk(&folder, "size=16k", PRUNE) {
        check_untouched(&ran, "`out/out.onnx`: No space left on device");
        let ran = on_small_disk(&folder, "size=64k", PRUNE).unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "out.onnx\nplan.json\n"), "{ran:?}");
    }
    // Where no disk can be mounted, a limit on the size of files stands in for it.
    let limited = format!("trap '' XFSZ; ulimit -f 16; exec $SECATEUR {PRUNE}");
    let ran = folder.script(&["sh"], &limited);
    check_still(&folder, &ran, "`out/out.onnx`: File too large");
}

#[test]
fn a_folder_that_may_not_be_written_to_keeps_its_files() {
    let folder = old_files();
    if let Some(ran) = on_small_disk(&folder, "ro", PRUNE) {
        check_untouched(&ran, "`out/plan.json`: Read-only file system");
    }
    let mode = |name: &str, mode| {
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(".", 0o755);
    mode("out", 0o555);
    // Root may write anywhere, and no one else may run what is in root's folders.
    fs::copy(assert_cmd::cargo::cargo_bin!("secateur"), folder.path("command")).unwrap();
    let as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let script = format!("[ $(id -u) = 0 ] && as='{as_nobody}'; $as ./command {PRUNE}");
    let ran = folder.script(&["sh"], &script);
    mode("out", 0o755);
    check_still(&folder, &ran, "`out/plan.json`: Permission denied");
}

/// Bytes of the tensor in a large model.
const LARGE: usize = 64 << 20;

/// Gives the model a large stored tensor that nothing reads.
fn large_model(folder: &Folder) {
    let varint = |mut value: usize| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let field = |number: u8, len: usize| [vec![number << 3 | 2], varint(len)].concat();
    // dims, data_type (UINT8), name, and the tag of raw_data.
    let head = [vec![1 << 3], varint(LARGE), vec![2 << 3, 2], field(8, 1), vec![b'z']];
    let tensor = [head.concat(), field(9, LARGE)].concat();
    let graph = [field(5, tensor.len() + LARGE), tensor].concat();
    let mut file = fs::OpenOptions::new().append(true).open(folder.path("model.onnx")).unwrap();
    file.write_all(&field(7, graph.len() + LARGE)).unwrap();
    file.write_all(&graph).unwrap();
    file.write_all(&vec![7; LARGE]).unwrap();
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// How many bytes a process has written.
fn written(child: &Child) -> usize {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Starts the command and stops it in the middle of writing; `None` where it got further.
fn stopped_in_the_middle(folder: &Folder) -> Option<Child> {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("secateur"))
        .args(PRUNE.split_whitespace())
        .current_dir(folder.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while written(&child) < 1 << 20 && child.try_wait().unwrap().is_none() {}
    if child.try_wait().unwrap().is_none() {
        signal(&child, "STOP");
        if written(&child) < LARGE {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    folder.write("out/out.onnx", b"precious");
    folder.write("out/plan.json", b"precious");
    None
}

#[test]
fn an_end_in_the_middle_leaves_the_old_files() {
    let folder = old_files();
    large_model(&folder);
    for name in ["INT", "TERM", "KILL"] {
        let mut tries = (0..20).map(|_| stopped_in_the_middle(&folder));
        let mut child = tries.find_map(|child| child).unwrap();
        signal(&child, name);
        signal(&child, "CONT");
        assert!(!child.wait().unwrap().success(), "{name}");
        assert!(folder.read("out/out.onnx") == b"precious", "{name}");
        assert!(folder.read("out/plan.json") == b"precious", "{name}");
        // A file system without nameless files keeps those with made-up names.
        let names = names(&folder.path("out"));
        let left = names.iter().filter(|name| !name.starts_with(".secateur-"));
        assert_eq!(left.collect::<Vec<_>>(), ["out.onnx", "plan.json"], "{name}");
    }
    folder.text(PRUNE);
    assert!(folder.read("out/out.onnx").len() > LARGE);
}

#[test]
fn what_is_no_file_is_not_written_over() {
    let folder = old_files();
    assert!(folder.script(&["sh"], "mkfifo out/pipe").code == 0);
    for line in [
        "prune model.onnx -o out/pipe --ratio 0.5",
        "prune model.onnx -o other.onnx --plan out/pipe --ratio 0.5",
    ] {
        let error = folder.error(line);
        assert_eq!(error, "error: `out/pipe` is not a file\nhint: name a file\n");
    }
    assert_eq!(names(&folder.path("out")), ["out.onnx", "pipe", "plan.json"]);
    assert_eq!(folder.files(), ["model.onnx", "out"]);
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let folder = old_files();
    std::os::unix::fs::symlink("out/out.onnx", folder.path("link.onnx")).unwrap();
    folder.text("prune model.onnx -o link.onnx --ratio 0.5");
    assert_eq!(folder.read("out/out.onnx"), b"precious");
    assert!(fs::symlink_metadata(folder.path("link.onnx")).unwrap().is_file());
}
