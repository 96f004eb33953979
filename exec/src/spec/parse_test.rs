//! Descriptors of every form, faults of every kind, and bytes of no kind at all.

use proptest::prelude::*;

use super::*;

fn errors(text: &str) -> Vec<SpecError> {
    parse(text.as_bytes(), "a.toml").expect_err(text)
}

fn spec(text: &str) -> JobSpec {
    parse(text.as_bytes(), "a.toml").unwrap_or_else(|e| panic!("{text}\n{}", render_errors("a", &e, "")))
}

#[test]
fn the_three_forms_say_the_same() {
    let toml = spec(
        "name = 'n'\nexec = '/bin/x'\nargs = ['a', 'b']\nenv = { K = 'v' }\n[resources]\ncpus = 2\nmemory = '2GiB'\ntime = '1h30m'\n",
    );
    let json = spec(
        r#"{"name": "n", "exec": "/bin/x", "args": ["a", "b"], "env": {"K": "v"},
            "resources": {"cpus": 2, "memory": 2147483648, "time": 5400}}"#,
    );
    assert_eq!(toml, json);
    let script = spec(
        "#!/bin/sh\n#XOS name = n\n#XOS env.K = v\n#XOS resources.cpus = 2\n#XOS resources.memory = 2GiB\n#XOS resources.time = 1h30m\necho\n#XOS cpus = late\n",
    );
    assert_eq!((&script.env, &script.resources, &script.name), (&toml.env, &toml.resources, &toml.name));
    assert_eq!(script.program, Program::Descriptor);
}

#[test]
fn jsdl_is_understood() {
    let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- a render job -->
<jsdl:JobDefinition xmlns:jsdl="http://schemas.ggf.org/jsdl/2005/11/jsdl"
    xmlns:p="http://schemas.ggf.org/jsdl/2005/11/jsdl-posix">
  <jsdl:JobDescription>
    <jsdl:JobIdentification><jsdl:JobName>n</jsdl:JobName><jsdl:Description>x</jsdl:Description></jsdl:JobIdentification>
    <jsdl:Application><p:POSIXApplication>
      <p:Executable>/bin/x</p:Executable><p:Argument>a</p:Argument><p:Argument><![CDATA[b & {c}]]></p:Argument>
      <p:Output>out &lt;1&gt;</p:Output><p:Environment name="K">v</p:Environment><p:WallTimeLimit>60</p:WallTimeLimit>
    </p:POSIXApplication></jsdl:Application>
    <jsdl:Resources>
      <jsdl:TotalCPUCount><jsdl:Exact>2.0</jsdl:Exact></jsdl:TotalCPUCount>
      <jsdl:TotalPhysicalMemory><jsdl:LowerBoundedRange>1048576</jsdl:LowerBoundedRange></jsdl:TotalPhysicalMemory>
    </jsdl:Resources>
  </jsdl:JobDescription>
</jsdl:JobDefinition>"#;
    let spec = spec(text);
    assert_eq!((spec.name.as_str(), &spec.program), ("n", &Program::Exec("/bin/x".into())));
    assert_eq!(spec.args, ["a", "b & {{c}}"], "braces are not placeholders");
    assert_eq!((spec.stdout.as_deref(), spec.env.get("K").map(String::as_str)), (Some("out <1>"), Some("v")));
    assert_eq!(spec.resources, Resources { cpus: 2, memory: Some(1 << 20), time_ms: Some(60_000) });
}

#[test]
fn sbatch_options_are_understood() {
    let text = "#!/bin/bash -l\n#SBATCH -J my-job --time=1-02:03:04\n#SBATCH --output=out-%j.txt -c4\n#SBATCH --mem 512\n\
                #SBATCH --export=NONE,A=1 --signal=B:USR1@90 # comment\n#SBATCH --nodes=1 --open-mode=append\nhostname\n";
    let spec = spec(text);
    assert_eq!((spec.name.as_str(), spec.resources.cpus), ("my-job", 4));
    assert_eq!(spec.resources.time_ms, Some(((26 * 60 + 3) * 60 + 4) * 1000));
    assert_eq!(spec.resources.memory, Some(512 << 20));
    assert_eq!(spec.stdout.as_deref(), Some("out-{id}.txt"));
    assert_eq!(spec.env.get("A").map(String::as_str), Some("1"));
    assert_eq!(spec.signal, Some(EarlySignal { number: libc::SIGUSR1, before_end_ms: 90_000 }));
    assert!(spec.append_output);

    let unknown = "#!/bin/sh\n#SBATCH --partition=big --tiem=5\n";
    let found = errors(unknown);
    assert_eq!(
        found.iter().map(|e| (e.code, e.line, e.col)).collect::<Vec<_>>(),
        [("E0115", 2, 9), ("E0115", 2, 25)]
    );
    assert!(found[1].fix.as_ref().unwrap().contains("--time"));
    let lenient = "#!/bin/sh\n#XOS strict = false\n#SBATCH --partition=big\n";
    assert_eq!(spec_of(lenient).warnings.len(), 1);
}

fn spec_of(text: &str) -> JobSpec {
    spec(text)
}

/// Each fault with its code and place.
#[test]
fn faults_have_a_code_and_a_place() {
    for (text, expected) in [
        ("", "E0102:0:0"),
        ("exec = 'a", "E0101:1:10"),
        ("exec = /bin/echo\n", "E0101:1:8"),
        ("{\"exec\": \"a\",}", "E0101:1:14"),
        ("{\"exec\": \"a\", \"exec\": \"b\"}", "E0114:1:15"),
        ("{\"exec\": tru}", "E0101:1:10"),
        ("[1]", "E0103:1:2 E0106:0:0"),
        ("exec = 'a'\nexce = 'b'\n", "E0103:2:1"),
        ("exec = 'a'\ncpus = 1\n", "E0103:2:1"),
        ("exec = 'a'\n[checkpoint]\nevery = '1m'\n", "E0104:2:2"),
        ("exec = 'a'\nkind = 'array'\n", "E0104:2:8"),
        ("exec = 'a'\nresources.gpus = 1\n", "E0104:2:11"),
        ("exec = 'a'\nargs = 'b'\n", "E0105:2:8"),
        ("exec = 'a'\nargs = ['b', true]\n", "E0105:2:14"),
        ("name = 'x'\n", "E0106:0:0"),
        ("exec = 'a'\nresources.memory = '2 cups'\n", "E0107:2:20"),
        ("exec = 'a'\nresources.memory = 512\n", "E0109:2:20"),
        ("exec = 'a'\nresources.time = 'soon'\n", "E0108:2:18"),
        ("exec = 'a'\nresources.cpus = 0\n", "E0109:2:18"),
        ("exec = 'a'\nscript = 'b'\n", "E0110:2:10"),
        ("exec = 'a'\nsignal.name = 'USR1'\n", "E0110:2:1"),
        ("exec = 'a'\nstdout = 'out/{jobid}'\n", "E0111:2:10"),
        ("exec = 'a'\nsignal.name = 'BANG'\nresources.time = '1h'\n", "E0112:2:15"),
        ("version = 7\nexec = 'a'\n", "E0113:1:11"),
        ("exec = 'a'\n[env]\n'A=B' = 'c'\n", "E0116:3:1"),
        ("exec = 'a'\nafter.begin = 'tomorrow'\n", "E0117:2:15"),
        ("exec = 'a'\nafter.ok = ['j-1']\n", "E0104:2:7"),
        ("exec = 'a'\nretry.on = ['failed']\n", "E0104:2:12"),
        ("#!/bin/sh\n#XOS exec = a\n", "E0110:2:13"),
        ("#!/bin/sh\n#XOS name = a\n#XOS name = b\n", "E0114:3:6"),
        ("<job/>", "E0103:1:1"),
        ("<JobDefinition><JobDescription>", "E0101:1:32"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><JobDefinition/>", "E0101:1:1"),
        ("<JobDefinition><JobDescription><DataStaging/></JobDescription></JobDefinition>", "E0104:1:32"),
        ("exec = 'a\0b'", "E0100:1:10"),
    ] {
        let mut found: Vec<String> =
            errors(text).iter().map(|e| format!("{}:{}:{}", e.code, e.line, e.col)).collect();
        found.sort();
        assert_eq!(found.join(" "), expected, "{text:?}");
    }
    let latin = parse(b"exec = 'a'\nname = '\xe4'\n", "a").unwrap_err();
    assert_eq!((latin[0].code, latin[0].line, latin[0].col), ("E0100", 2, 9));
    let long = parse(&vec![b'#'; DESCRIPTOR_BYTES_MAX + 1], "a").unwrap_err();
    assert_eq!(long[0].code, "E0301");
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = include_str!("../../tests/golden/many.toml");
    let rendered = render_errors("many.toml", &errors(text), "mv rejected/many.toml~1 new/many.toml");
    assert_eq!(rendered, include_str!("../../tests/golden/many.toml.error"), "\n{rendered}");
}

#[test]
fn a_cut_off_file_looks_so() {
    for (text, cut) in
        [("exec = 'a", true), ("exec = 'a'\nargs = [", true), ("exec = 'a'\nbad key\n", false), ("", true)]
    {
        assert_eq!(looks_cut_off(text.as_bytes(), &errors(text)), cut, "{text:?}");
    }
}

#[test]
fn placeholders_are_filled_and_braces_kept() {
    let value = |word: &str| (word == "id").then(|| "j-1".to_string());
    for (template, expected) in [
        ("a-{id}.out", "a-j-1.out"),
        ("{{id}}", "{id}"),
        ("{x} {", "{x} {"),
        ("${HOME} }", "${HOME} }"),
        ("", ""),
    ] {
        assert_eq!(fill(template, &value), expected);
    }
}

#[test]
fn durations_sizes_and_times() {
    assert_eq!(duration_ms("1h30m"), Some(5_400_000));
    assert_eq!(duration_ms("1:02:03"), Some(3_723_000));
    assert_eq!(duration_ms("1.5s"), Some(1500));
    for wrong in ["", "x", "1x", "-1s", "1:2:3:4", "99999999999999d"] {
        assert_eq!(duration_ms(wrong), None, "{wrong}");
    }
    assert_eq!(duration::size_bytes("1.5 GB"), Some(1_500_000_000));
    assert_eq!(duration::size_bytes("2GB ram"), None);
    assert_eq!(duration::moment_unix_ms("1970-01-02"), Some(86_400_000));
    assert_eq!(duration::moment_unix_ms("1970-01-01T01:00:00+01:00"), Some(0));
    assert_eq!(duration::moment_unix_ms("1970-01-01T00:01Z"), Some(60_000));
}

/// Text made of the pieces that descriptors are made of.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "exec",
        "script",
        "args",
        "resources",
        "env",
        "after",
        "signal",
        "retry",
        "=",
        " ",
        "\n",
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "#XOS ",
        "#SBATCH ",
        "#!",
        "--time=",
        "-c",
        "1",
        "2GiB",
        "\\",
        "\\u",
        "é",
        "\t",
        ".",
        "'''",
        "%j",
        "cpus",
        "before_end",
        "<JobDefinition>",
        "<Executable>",
        "</",
        "&lt;",
        "<![CDATA[",
        "/>",
        "<",
        ">",
        "-",
        "{id}",
        "true",
        "null",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes)?;
    }

    #[test]
    fn any_soup_gives_an_answer(text in soup(), start in prop::sample::select(vec!["", "{", "#!/bin/sh\n#XOS ", "#!/bin/sh\n#SBATCH ", "<JobDefinition>", "exec = 'a'\n"])) {
        check(format!("{start}{text}").as_bytes())?;
    }

    #[test]
    fn a_spec_survives_its_file(cpus in 1u32..100, args in prop::collection::vec("[a-z{}]{0,8}", 0..4), seconds in 1u64..100_000) {
        let job = serde_json::json!({ "exec": "a", "args": args.iter().map(|a| a.replace(['{', '}'], "")).collect::<Vec<_>>(),
            "resources": { "cpus": cpus, "time": seconds } });
        let spec = parse(job.to_string().as_bytes(), "a.json").map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        let again: JobSpec = serde_json::from_slice(&serde_json::to_vec(&spec).unwrap()).unwrap();
        prop_assert_eq!(again, spec);
    }
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Err(errors) = parse(bytes, "a") {
        prop_assert!(!errors.is_empty() && errors.len() <= ERRORS_MAX);
        let lines = u32::try_from(bytes.split(|b| *b == b'\n').count()).unwrap();
        for error in &errors {
            prop_assert!(error.line <= lines, "{:?}", error);
            prop_assert_eq!(error.line == 0, error.col == 0);
        }
        prop_assert!(render_errors("a", &errors, "mv").contains("nothing was started"));
    }
    Ok(())
}
