//! Two processes on one output: one of them writes it, the other is refused or finds it done; no row is there twice.

use std::fs;

use super::command::{cases, contents, difference, takes_all};

#[test]
fn two_processes_never_mix_their_rows() {
    let root = tempfile::tempdir().unwrap();
    let rounds = if takes_all() { 50 } else { 3 };
    for case in cases(root.path()).into_iter().filter(|case| ["train", "sample"].contains(&case.name)) {
        let whole = root.path().join("whole");
        case.start(&whole);
        assert!(case.run(&whole, &[]).status.success());
        let whole_contents = contents(&whole);
        let mut refused = 0;
        for round in 0..rounds {
            let dir = root.path().join("two");
            case.start(&dir);
            // Every other round both begin; in the others both go on with a run.
            let both: &[&str] = if case.name == "sample" { &["--resume"] } else { &[] };
            let both = if round % 2 == 0 && case.name == "train" {
                assert!(case.run(&dir, &["--max-steps", "2"]).status.success());
                fs::remove_dir_all(dir.join("out/final")).unwrap();
                &["--resume"]
            } else {
                both
            };
            let two = [(); 2].map(|()| case.spawn(&dir, both));
            let two = two.map(|child| child.wait_with_output().unwrap());
            for output in &two {
                let said = String::from_utf8_lossy(&output.stderr);
                let is_refusal =
                    said.contains("another process writes it") || said.contains("go on with it by --resume");
                assert!(output.status.success() || is_refusal, "{}: {said}", case.name);
                refused += usize::from(!output.status.success());
            }
            assert!(two.iter().any(|output| output.status.success()), "{}: nobody wrote it", case.name);
            assert_eq!(difference(&contents(&dir), &whole_contents), None, "{} in round {round}", case.name);
            fs::remove_dir_all(&dir).unwrap();
        }
        println!("{}: {refused} of {rounds} were refused, the others found it done", case.name);
        fs::remove_dir_all(&whole).unwrap();
    }
}
