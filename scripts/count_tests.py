"""Prints `N passed, N failed` for a ctest run: each case of a GoogleTest program counts, and each
other ctest test counts as one. Exits with 1 where anything failed or nothing ran."""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

folder = pathlib.Path(sys.argv[1])
passed = failed = skipped = 0
skipped_names = []

for test in ElementTree.parse(folder / "ctest.xml").getroot().iter("testcase"):
    program = test.get("name")
    status = test.get("status")  # "run", "fail", "notrun" or "disabled"
    report = folder / f"{program}.json"
    cases = []
    if report.exists():
        for suite in json.loads(report.read_text())["testsuites"]:
            cases += [(suite["name"], case) for case in suite["testsuite"]]
    for suite, case in cases:
        if case.get("failures"):
            failed += 1
        elif case["result"] == "SKIPPED":
            skipped += 1
            skipped_names.append(f"{program}: {suite}.{case['name']}")
        else:
            passed += 1
    any_case_failed = any(case.get("failures") for _, case in cases)
    if status == "run" and not cases:
        passed += 1
    elif status == "notrun" and "SKIP_RETURN_CODE" in ElementTree.tostring(test, "unicode"):
        skipped += 1
        skipped_names.append(program)
    elif status != "run" and not any_case_failed:
        failed += 1  # crashed, timed out, or is no GoogleTest program

for name in skipped_names:
    print(f"skipped: {name}")
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(0 if failed == 0 and passed > 0 else 1)
