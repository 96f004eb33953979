//! JSDL 1.0 (GFD.136) with the POSIX application extension, as far as it names what this service does. Elements that
//! would change how the job runs and are not understood are errors; descriptions for people are skipped.

use super::value::{Data, Node, Table};
use super::xml::{self, Element};
use super::{SpecError, suggest};

pub(super) fn read(text: &str) -> Result<Table, Vec<SpecError>> {
    let root = xml::read(text)?;
    let mut out = Jsdl { text, table: Table::default(), args: Vec::new(), errors: Vec::new() };
    if root.name == "JobDefinition" {
        for child in &root.children {
            out.expect(child, &["JobDescription"], |out, child| out.description(child));
        }
    } else {
        out.wrong(
            &root,
            "E0103",
            format!("<{}> is not a JSDL document", root.name),
            "expected <JobDefinition>",
        );
    }
    if !out.args.is_empty() {
        let node = Node { span: root.span.clone(), data: Data::List(std::mem::take(&mut out.args)) };
        let _ = out.table.insert(&["args".into()], root.span, node);
    }
    if out.errors.is_empty() { Ok(out.table) } else { Err(out.errors) }
}

struct Jsdl<'a> {
    text: &'a str,
    table: Table,
    args: Vec<Node>,
    errors: Vec<SpecError>,
}

/// Elements of JSDL that are known and do nothing here yet.
const LATER: [&str; 26] = [
    "DataStaging",
    "CandidateHosts",
    "FileSystem",
    "ExclusiveExecution",
    "OperatingSystem",
    "CPUArchitecture",
    "IndividualCPUSpeed",
    "IndividualCPUTime",
    "IndividualNetworkBandwidth",
    "IndividualVirtualMemory",
    "IndividualDiskSpace",
    "TotalCPUTime",
    "TotalVirtualMemory",
    "TotalDiskSpace",
    "TotalResourceCount",
    "JobProject",
    "FileSizeLimit",
    "CoreDumpLimit",
    "DataSegmentLimit",
    "LockedMemoryLimit",
    "OpenDescriptorsLimit",
    "PipeSizeLimit",
    "StackSizeLimit",
    "CPUTimeLimit",
    "ProcessCountLimit",
    "UserName",
];
/// For people only.
const SKIPPED: [&str; 4] = ["Description", "JobAnnotation", "ApplicationName", "ApplicationVersion"];

impl Jsdl<'_> {
    fn wrong(&mut self, element: &Element, code: &'static str, message: String, fix: &str) {
        let fix = (!fix.is_empty()).then(|| fix.to_string());
        self.errors.push(SpecError::at(self.text, element.span.clone(), code, message, fix));
    }

    fn expect(&mut self, element: &Element, known: &[&str], then: impl FnOnce(&mut Self, &Element)) {
        let name = element.name.as_str();
        if known.contains(&name) {
            then(self, element);
        } else if LATER.contains(&name) {
            let message = format!("<{name}> is not supported yet");
            self.wrong(element, "E0104", message, "remove it; nothing here would act on it");
        } else if !SKIPPED.contains(&name) {
            let fix = match suggest::nearest(name, known) {
                Some(near) => format!("did you mean <{near}>?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.wrong(element, "E0103", format!("unknown element <{name}>"), &fix);
        }
    }

    fn description(&mut self, element: &Element) {
        for part in &element.children {
            self.expect(part, &["JobIdentification", "Application", "Resources"], |out, part| {
                for child in &part.children {
                    match part.name.as_str() {
                        "JobIdentification" => {
                            out.expect(child, &["JobName"], |out, child| {
                                out.put(&["name"], child, literal(child))
                            });
                        }
                        "Application" => {
                            let known = ["POSIXApplication", "HPCProfileApplication"];
                            out.expect(child, &known, |out, child| out.application(child));
                        }
                        _ => out.resource(child),
                    }
                }
            });
        }
    }

    fn application(&mut self, application: &Element) {
        let known = [
            "Executable",
            "Argument",
            "Input",
            "Output",
            "Error",
            "WorkingDirectory",
            "Environment",
            "WallTimeLimit",
            "MemoryLimit",
        ];
        for child in &application.children {
            self.expect(child, &known, |out, child| match child.name.as_str() {
                "Executable" => out.put(&["exec"], child, literal(child)),
                "Argument" => out.args.push(Node { span: child.inner.clone(), data: literal(child) }),
                "Input" => out.put(&["stdin"], child, literal(child)),
                "Output" => out.put(&["stdout"], child, literal(child)),
                "Error" => out.put(&["stderr"], child, literal(child)),
                "WorkingDirectory" => out.put(&["cwd"], child, literal(child)),
                "Environment" => match child.attributes.iter().find(|(k, _)| k == "name") {
                    Some((_, name)) => out.put(&["env", name], child, Data::Text(child.text.clone())),
                    None => {
                        out.wrong(child, "E0106", "<Environment> without a name".into(), "write name=\"...\"")
                    }
                },
                "WallTimeLimit" => out.number(&["resources", "time"], child, child),
                _ => out.number(&["resources", "memory"], child, child),
            });
        }
    }

    fn resource(&mut self, element: &Element) {
        let known =
            ["TotalCPUCount", "IndividualCPUCount", "TotalPhysicalMemory", "IndividualPhysicalMemory"];
        self.expect(element, &known, |out, element| {
            let path = if element.name.ends_with("CPUCount") {
                ["resources", "cpus"]
            } else {
                ["resources", "memory"]
            };
            // A range is satisfied by its lower end.
            let bound = |of: &Element| -> Option<usize> {
                let names = ["Exact", "LowerBoundedRange", "LowerBound", "UpperBoundedRange", "UpperBound"];
                names.iter().find_map(|n| of.children.iter().position(|c| c.name == *n))
            };
            let ranged = element.children.iter().find(|c| c.name == "Range").unwrap_or(element);
            match bound(ranged) {
                Some(n) => out.number(&path, element, &ranged.children[n]),
                None => {
                    let message = format!("<{}> names no number", element.name);
                    out.wrong(element, "E0106", message, "write <Exact>1</Exact> inside");
                }
            }
        });
    }

    fn number(&mut self, path: &[&str], element: &Element, holder: &Element) {
        match holder.text.parse::<f64>() {
            Ok(number) if (0.0..9e18).contains(&number) => {
                self.put(path, element, Data::Integer(number.ceil() as i64));
            }
            _ => {
                let message = format!("<{}>{}</{0}>: not a number", holder.name, holder.text);
                self.wrong(holder, "E0105", message, "expected a plain number");
            }
        }
    }

    fn put(&mut self, path: &[&str], element: &Element, data: Data) {
        let path: Vec<String> = path.iter().map(|p| (*p).to_string()).collect();
        let node = Node { span: element.inner.clone(), data };
        if self.table.insert(&path, element.span.clone(), node).is_err() {
            let message = format!("<{}> says again what another element has said", element.name);
            self.wrong(element, "E0114", message, "keep one");
        }
    }
}

/// JSDL knows no placeholders: braces are braces.
fn literal(element: &Element) -> Data {
    Data::Text(element.text.replace('{', "{{").replace('}', "}}"))
}
