"""A device's verdict and environment in words, for terminal, Markdown and HTML alike."""

from __future__ import annotations

from evit_edge.benchmark.device import Device, Environment


def verdict_lines(device: Device) -> list[str]:
    """The verdict, its reason and advice."""
    verdict = device.verdict
    lines = [f"{verdict.judgement.value}: {verdict.reason}"]
    return [*lines, f"advice: {verdict.advice}"] if verdict.advice else lines


def surroundings(device: Device) -> list[tuple[str, str]]:
    """What was measured on, name and value."""
    env, cpu = device.environment, device.environment.cpu
    cores = f"{cpu.logical_cores} logical, {cpu.physical_cores or 'unknown'} physical"
    frequency = " of ".join(
        f"{value / 1e9:.2f} GHz" for value in (cpu.frequency_hz, cpu.max_frequency_hz) if value
    )
    load = ", ".join(str(v) for v in (env.load_before, env.load_after) if v is not None)
    told = [
        ("CPU", f"{cpu.model} ({cpu.architecture})"),
        ("features", " ".join(cpu.features)),
        ("cores", cores),
        ("affinity", " ".join(map(str, cpu.affinity))),
        ("governor", cpu.governor or ""),
        ("frequency", frequency),
        ("memory", "" if env.memory_bytes is None else f"{env.memory_bytes / 2**30:.1f} GiB"),
        ("system", f"{env.os} {env.os_version}"),
        ("container", env.container or "none found"),
        ("virtual machine", env.virtual_machine or "none found"),
        ("load before, after", load),
        ("versions", ", ".join(f"{name} {version}" for name, version in env.versions.items())),
        ("git", _git(env)),
        *_phone(env),
        *_peaks(device),
    ]
    return [(name, value) for name, value in told if value]


def _git(env: Environment) -> str:
    if env.git_commit is None:
        return ""
    return f"{env.git_commit[:12]}{' with changes' if env.git_dirty else ''}"


def _phone(env: Environment) -> list[tuple[str, str]]:
    phone = env.phone
    if phone is None:
        return []
    told = [
        ("phone", f"{phone.manufacturer} {phone.model}"),
        ("SoC", phone.soc or ""),
        ("build", phone.build or ""),
    ]
    for when, state in (("before", phone.before), ("after", phone.after)):
        if state is not None:
            battery = "" if state.battery_level is None else f"battery {100 * state.battery_level:.0f} %"
            charging = {True: "charging", False: "on battery", None: ""}[state.charging]
            warmth = [f"{name} {value:.1f} °C" for name, value in state.temperatures_c.items()]
            if state.battery_temperature_c is not None:
                warmth.append(f"battery {state.battery_temperature_c:.1f} °C")
            thermal = f"thermal status {state.thermal_status}" if state.thermal_status else ""
            told.append((f"state {when}", ", ".join(filter(None, (thermal, battery, charging, *warmth)))))
    return told


def _peaks(device: Device) -> list[tuple[str, str]]:
    told = []
    for peak in device.peaks:
        macs = [f"{name} {2 * value / 1e9:.0f} Gop/s" for name, value in peak.macs_per_s.items()]
        ends = (peak.bandwidths[0], peak.bandwidths[-1]) if peak.bandwidths else ()
        reads = [f"{b.bytes_per_s / 1e9:.0f} GB/s from a block of {b.block_bytes / 2**20:g} MiB" for b in ends]
        told.append((f"peaks, {peak.threads} threads", ", ".join(macs + reads)))
    return told
