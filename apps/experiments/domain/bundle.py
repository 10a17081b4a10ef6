"""What a bundle carries beside its data: a word on what it is, and the decision again in Python (R: bundle_r.py).

The scripts are programs of their own: numpy and scipy, or base R; they share no line with the product, so that they
can contradict it.
"""

from __future__ import annotations

README = """A readout of one experiment, with everything that its decision was made from.

plan.json      the design's numbers, fixed at the start, and the looks so far (information = units / planned units)
sums.csv       per metric, period of constant traffic and arm: units, sums, centred squares and products
units.csv      units per period and arm, with the weights they should follow
looks.csv      every look: its number and its information
expected.json  what the product said
plan.csv       the numbers of both, a line each: what the script in R reads
readout.csv    the same as a table

reproduce.py   python reproduce.py   (numpy and scipy)   prints the numbers, and "agrees" or what does not
reproduce.R    Rscript reproduce.R   (base R)
"""

PYTHON_SCRIPT = '''"""The decision of this bundle again, from its sums alone. Needs numpy and scipy."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy import integrate, optimize, stats

HERE = Path(__file__).resolve().parent
plan = json.loads((HERE / "plan.json").read_text())
expected = json.loads((HERE / "expected.json").read_text())


def table(name):
    with (HERE / name).open(newline="") as file:
        return list(csv.DictReader(file))


rows = [row for row in table("sums.csv") if row["metric"] == plan["primary"]]
periods = sorted({int(row["period"]) for row in rows})


def column(name, arm):
    found = {int(r["period"]): float(r[name] or "nan") for r in rows if r["arm"] == arm}
    return np.array([found[p] for p in periods])


def cochran_mantel_haenszel():
    """The test of Mantel and Haenszel (1959), the risk difference with the variance of Sato (1989); where that is 0
    (0 % in one arm, 100 % in the other, in every period) the error under "no difference", |d / z|."""
    kc, nc, kt, nt = (column(c, a) for a in ("control", "treatment") for c in ("sum_1", "n"))
    ok = (nc > 0) & (nt > 0)
    kc, nc, kt, nt = kc[ok], nc[ok], kt[ok], nt[ok]
    n, k = nc + nt, kc + kt
    variance = (nc * nt * k * (n - k) / (n**2 * (n - 1))).sum()
    z = (kt - nt * k / n).sum() / math.sqrt(variance)
    w = nc * nt / n
    d = (w * (kt / nt - kc / nc)).sum() / w.sum()
    p = (nt**2 * kc - nc**2 * kt + nc * nt * (nc - nt) / 2) / n**2
    q = (kc * (nt - kt) + kt * (nc - kc)) / (2 * n)
    a, b = kc / nc, kt / nt
    alike = math.sqrt((w**2 * (a * (1 - a) / nt + b * (1 - b) / nc)).sum()) / w.sum()
    if (kc == 0).all() and (kt == nt).all() or (kc == nc).all() and (kt == 0).all():
        return d, abs(d / z), z, math.inf, alike
    return d, math.sqrt((d * p.sum() + q.sum()) / w.sum() ** 2), z, math.inf, alike


def means():
    """Welch's t over periods, weights n_c n_t / (n_c + n_t); ratios by the delta method, covariates by CUPED."""
    parts = {}
    for arm in ("control", "treatment"):
        n, y, s11 = column("n", arm), column("sum_1", arm), column("s11", arm)
        with np.errstate(invalid="ignore", divide="ignore"):
            x, s12, s22 = (column(name, arm) for name in ("sum_2", "s12", "s22"))
            parts[arm] = n, y / n, s11 / (n - 1), x / n, s12 / (n - 1), s22 / (n - 1)
    (nc, yc, vc, xc, cc, wc), (nt, yt, vt, xt, ct, wt) = parts["control"], parts["treatment"]
    cov, dfc, dft = np.zeros(len(periods)), nc - 1, nt - 1
    if plan["kind"] == "ratio":
        rc, rt = yc / xc, yt / xt
        vc, vt = ((v - 2 * r * c + r * r * w) / x**2 for v, r, c, w, x in ((vc, rc, cc, wc, xc), (vt, rt, ct, wt, xt)))
        yc, yt = rc, rt
    if plan["has_covariate"]:
        within = dfc * wc + dft * wt
        theta = np.where(within > 0, (dfc * cc + dft * ct) / np.where(within > 0, within, 1.0), 0.0)
        s = nt / (nc + nt)
        yc, yt = yc + theta * s * (xt - xc), yt - theta * (1 - s) * (xt - xc)
        # each arm's mean is linear in the four means; coefficients on (y_c, x_c) and (y_t, x_t)
        a, b = -theta * s, theta * s
        e, f = theta * (1 - s), -theta * (1 - s)
        var_c = (vc + 2 * a * cc + a * a * wc) / nc + b * b * wt / nt
        var_t = e * e * wc / nc + (vt + 2 * f * ct + f * f * wt) / nt
        cov = (e * cc + a * e * wc) / nc + (b * ct + b * f * wt) / nt
        dfc, dft = dfc - 1, dft - 1
        own_c, own_t = vc - 2 * theta * cc + theta**2 * wc, vt - 2 * theta * ct + theta**2 * wt
    else:
        var_c, var_t, own_c, own_t = vc / nc, vt / nt, vc, vt
    ok = (dfc > 0) & (dft > 0)
    w = np.where(ok, nc * nt / (nc + nt), 0.0)
    w = (w / w.sum())[ok]
    d = (w * (yt - yc)[ok]).sum()
    vars_c, vars_t = w**2 * var_c[ok], w**2 * var_t[ok]
    total_c, total_t = vars_c.sum(), vars_t.sum()
    variance = total_c + total_t - 2 * (w**2 * cov[ok]).sum()
    # an arm in which nothing varies adds no uncertainty
    df_c = total_c**2 / (vars_c**2 / dfc[ok]).sum() if total_c > 0 else math.inf
    df_t = total_t**2 / (vars_t**2 / dft[ok]).sum() if total_t > 0 else math.inf
    a, b = total_c / (total_c + total_t), total_t / (total_c + total_t)
    se = math.sqrt(variance)
    alike = math.sqrt((w**2 * (own_c / nt + own_t / nc)[ok]).sum())
    return d, se, d / se, 1 / (a * a / df_c + b * b / df_t), alike


def bound(times, alpha):
    """Lan and DeMets (1983), O'Brien and Fleming's shape: the boundary of the last look, by plain quadrature."""
    def spent(t):
        return alpha if t >= 1 else 4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(t))

    grid, density, last, used, c = None, None, 0.0, 0.0, math.inf
    for t in times:
        new = spent(t) - used
        if new < 1e-25 or t - last < 1e-3:
            c = math.inf
            continue
        step, root = math.sqrt(t - last), math.sqrt(t)

        def crossing(z):
            if grid is None:
                return 2 * stats.norm.sf(z)
            tails = stats.norm.sf((z * root - grid) / step) + stats.norm.cdf((-z * root - grid) / step)
            return integrate.simpson(density * tails, x=grid)

        c = optimize.brentq(lambda z: crossing(z) - new, 0.0, 36.0, xtol=1e-12)
        edge = min(c, 10.0) * root
        fresh = np.linspace(-edge, edge, 2001)
        if grid is None:
            density_new = stats.norm.pdf(fresh / step) / step
        else:
            moved = [density * stats.norm.pdf((x - grid) / step) / step for x in fresh]
            density_new = integrate.simpson(np.array(moved), x=grid, axis=1)
        grid, density, last, used = fresh, density_new, t, spent(t)
    return c


def always_valid(se, total):
    """Waudby-Smith et al. (2021), narrowest at the planned units: there x = N rho^2 solves x = log(1 + x) - 2 log a."""
    a = plan["alpha"]
    x1 = optimize.brentq(lambda x: x - math.log1p(x) + 2 * math.log(a), 1e-9, 1e6)  # N rho^2 at the plan
    x = x1 * total / plan["tuned_total"]
    return se * math.sqrt(2 * (x + 1) / x * math.log(math.sqrt(x + 1) / a))


def judge(d, se, z, df, alike):
    if plan["mode"] == "always_valid":
        # a small arm without an event has no variance of its own yet: no less than if both arms varied alike
        half = always_valid(max(se, alike), total)
        crossed = abs(d) > half
    else:
        c = bound([t for t in plan["looks"] if t > 0], plan["alpha"])
        nominal = 2 * stats.norm.sf(c)
        crossed, half = False, math.inf
        if nominal > 0:
            q = stats.norm.isf(nominal / 2) if math.isinf(df) else stats.t.isf(nominal / 2, df)
            crossed, half = abs(z) >= q, q * se
    sign = int(np.sign(d))
    crossed = crossed or plan["crossed_before"] == sign != 0
    low, high = d - half, d + half
    # shares differ by 100 points at most, unless they are adjusted
    if plan["kind"] == "proportion" and not plan["has_covariate"] and math.isfinite(half):
        low, high = max(low, -1.0), min(high, 1.0)
    return decide(crossed, d), low, high


def decide(crossed, d):
    rails = [rail["verdict"] for rail in plan["guardrails"]]
    is_long_enough = plan["days"] >= plan["minimum_days"]
    if "harmed" in rails:
        return "roll_back"
    if plan["blocks"]:
        return "blocked"
    if crossed and (d > 0) != plan["higher_is_better"]:
        return "roll_back"
    if crossed and is_long_enough and all(verdict == "safe" for verdict in rails):
        return "ship"
    is_full = total >= plan["planned_total"] and is_long_enough
    return "stop_inconclusive" if is_full or plan["is_over"] else "keep_running"


def close(mine, theirs, tolerance):
    return theirs is None or abs(mine - theirs) <= tolerance * max(abs(mine), abs(theirs), 1e-12)


total = int(column("n", "control").sum() + column("n", "treatment").sum())
said = expected["primary"]["difference"]
if "undefined" in said:  # then nothing can be crossed; the rest decides
    kind = decide(False, 0.0)
    print("the primary metric is undefined:", said["text"])
    agrees = kind == expected["decision"]["kind"]
    print("agrees" if agrees else "DOES NOT AGREE: decision " + kind)
    sys.exit(0 if agrees else 1)
found = cochran_mantel_haenszel() if plan["kind"] == "proportion" and not plan["has_covariate"] else means()
d, se, z, df, alike = map(float, found)
kind, low, high = judge(d, se, z, df, alike)
print(f"difference {d:.10g}  standard error {se:.10g}  statistic {z:.10g}")
print(f"interval over all looks {low:.10g} to {high:.10g}  decision {kind}")
checks = {
    "difference": close(d, said["estimate"], 1e-6),
    "standard error": close(se, said["standard_error"], 1e-6),
    "statistic": close(z, said["statistic"], 1e-6),
    "lower": close(low, expected["look"]["lower"], 1e-6),
    "upper": close(high, expected["look"]["upper"], 1e-6),
    "decision": kind == expected["decision"]["kind"],
}
wrong = [name for name, agrees in checks.items() if not agrees]
print("agrees" if not wrong else "DOES NOT AGREE: " + ", ".join(wrong))
sys.exit(1 if wrong else 0)
'''
