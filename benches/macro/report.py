"""Tables: medians, ratio to ext4, CPU per operation."""

import json
import statistics
from collections import defaultdict

# Label, unit, where workloads.py puts the figure, where the CPU is, what the CPU is per.
PEER_ROWS = [
    ("sequential write 1 MiB + fsync", "MB/s", "W1.seqwrite.MBps", "W1.seqwrite", 2**20),
    ("sequential read, cold", "MB/s", "W2.seqread_cold.MBps", "W2.seqread_cold", 2**20),
    ("sequential read, warm", "MB/s", "W2.seqread_warm.MBps", "W2.seqread_warm", 2**20),
    ("random read 4 KiB direct, 1 in flight", "/s", "W3.randread_qd1.iops", "W3.randread_qd1", 0),
    ("random read 4 KiB direct, 16 in flight", "/s", "W3.randread_qd16.iops", "W3.randread_qd16", 0),
    ("random write 4 KiB + fdatasync", "/s", "W4.randwrite_fdatasync.iops", "W4.randwrite_fdatasync", 0),
    ("random write 4 KiB direct, 16 in flight", "/s", "W4.randwrite_qd16.iops", "W4.randwrite_qd16", 0),
    ("create, 1 thread", "/s", "W5.create_1t.ops_s", "W5.create_1t", 0),
    ("create, 8 threads", "/s", "W5.create_8t.ops_s", "W5.create_8t", 0),
    ("stat just created", "/s", "W5.stat_1t.ops_s", "W5.stat_1t", 0),
    ("stat after remount", "/s", "W5.stat_cold_1t.ops_s", "W5.stat_cold_1t", 0),
    ("ls -l after remount", "entries/s", "W5.lsl_cold_1t.ops_s", "W5.lsl_cold_1t", 0),
    ("rename", "/s", "W5.rename_1t.ops_s", "W5.rename_1t", 0),
    ("unlink", "/s", "W5.unlink_1t.ops_s", "W5.unlink_1t", 0),
    ("write 4 KiB file, 1 thread", "/s", "W6.swrite_1t.ops_s", "W6.swrite_1t", 0),
    ("write 4 KiB file, 8 threads", "/s", "W6.swrite_8t.ops_s", "W6.swrite_8t", 0),
    ("read 4 KiB file, cold", "/s", "W6.sread_cold_1t.ops_s", "W6.sread_cold_1t", 0),
    ("sqlite transaction", "/s", "W8.sqlite.tx_s", "W8.sqlite", 0),
    ("untar", "s", "W7.untar.secs", None, 0),
    ("cp -a", "s", "W7.cp_a.secs", None, 0),
    ("git add + commit", "s", "W7.git_add_commit.secs", None, 0),
    ("rm -rf", "s", "W7.rm_rf.secs", None, 0),
]


def from_peers(lines):
    """The table of a run over $XTFS_SHARED/peers."""
    figures, systems, errors = collect(lines)
    rows = []
    for label, unit, key, cpu, per_bytes in PEER_ROWS:
        row = {"workload": label, "unit": unit, "systems": {}}
        for system in systems:
            values = figures[system]
            if key not in values:
                continue
            # The kernel does the work of ext4: there is no process to charge.
            micros = None if system == "ext4" else cpu_micros(values, cpu, per_bytes)
            row["systems"][system] = {"value": statistics.median(values[key]), "runs": values[key], "cpu_us_op": micros}
        rows.append(row)
    return finish(rows, systems, errors, "CPU: servers + client daemon, us per operation (per MiB for sequential)")


def from_local(lines):
    """The table of a run of the built-in workloads."""
    rows, systems = {}, []
    with open(lines, encoding="utf-8") as source:
        for line in map(json.loads, source):
            system = line["system"]
            if system not in systems:
                systems.append(system)
            row = rows.setdefault(line["workload"], {"workload": line["workload"], "unit": line["unit"], "systems": {}})
            cell = row["systems"].setdefault(system, {"runs": [], "cpu_runs": []})
            cell["runs"].append(line["value"])
            if line["cpu_us_op"] is not None:
                cell["cpu_runs"].append(line["cpu_us_op"])
    for row in rows.values():
        for cell in row["systems"].values():
            cell["value"] = statistics.median(cell["runs"])
            cpu = cell.pop("cpu_runs")
            cell["cpu_us_op"] = round(statistics.median(cpu), 1) if cpu else None
    return finish(list(rows.values()), systems, [], "CPU: all processes of xtfs, us per operation (per MiB for sequential)")


def collect(lines):
    figures, systems, errors = defaultdict(lambda: defaultdict(list)), [], []
    with open(lines, encoding="utf-8") as source:
        for line in map(json.loads, source):
            system = line["peer"]
            if system not in systems:
                systems.append(system)
            for name, values in line["m"].items():
                if not isinstance(values, dict):
                    continue
                if values.get("err"):
                    errors.append(f"{system} {line['w']} {name}: {values['err']}")
                    continue
                for key, value in flat(values):
                    figures[system][f"{line['w']}.{name}.{key}"].append(value)
    return figures, systems, errors


def flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + key, value


def cpu_micros(values, key, per_bytes):
    if key is None:
        return None
    if per_bytes:
        names, scale = (f"{key}.cpu_s_per_GiB.srv", f"{key}.cpu_s_per_GiB.cli"), 1e6 * per_bytes / 2**30
    else:
        names, scale = (f"{key}.srv_us_op", f"{key}.cli_us_op"), 1
    if not all(name in values for name in names):
        return None
    return round(sum(statistics.median(values[name]) for name in names) * scale, 1)


def finish(rows, systems, errors, note):
    systems.sort(key=lambda system: system != "ext4")
    for row in rows:
        ceiling = row["systems"].get("ext4", {}).get("value")
        for cell in row["systems"].values():
            ratio = None
            if ceiling and cell["value"]:
                ratio = ceiling / cell["value"] if row["unit"] == "s" else cell["value"] / ceiling
            cell["ratio_to_ext4"] = None if ratio is None else round(ratio, 4)
    rows = [row for row in rows if row["systems"]]
    return {"systems": systems, "rows": rows, "errors": errors, "note": note}


def render(table):
    """For people: value, ratio to ext4, CPU per operation."""
    systems = table["systems"]
    body = [["", ""] + systems]
    for row in table["rows"]:
        cells = [text(row["systems"].get(system)) for system in systems]
        body.append([row["workload"], row["unit"], *cells])
    widths = [max(len(line[column]) for line in body) for column in range(len(body[0]))]
    lines = []
    for line in body:
        left = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        lines.append("  ".join(left + [cell.rjust(width) for cell, width in zip(line[2:], widths[2:])]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    out = ["Medians (ratio to ext4, 1 = as fast as the local disk) CPU us per operation", *lines, table["note"]]
    out += [f"failed: {error}" for error in table["errors"]]
    return "\n".join(out) + "\n"


def text(cell):
    if cell is None:
        return "-"
    out = short(cell["value"])
    if cell["ratio_to_ext4"] is not None and cell["ratio_to_ext4"] != 1:
        out += f" ({cell['ratio_to_ext4']:.3f})" if cell["ratio_to_ext4"] < 0.1 else f" ({cell['ratio_to_ext4']:.2f})"
    return out if cell["cpu_us_op"] is None else f"{out} {short(cell['cpu_us_op'])}us"


def short(value):
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
