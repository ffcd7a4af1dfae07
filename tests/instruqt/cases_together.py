"""Scripts that run at the same time, and what a script that was killed or somebody else has left."""

import subprocess

from harness import EXAMPLES, FILES, case, granted
from servers import TOKEN, started


@case
def script_beside_another_one_leaves_the_files_of_that_one(world):
    play = world.play(helpers="nesting-helpers")
    play.run("setup").succeeded()
    before = play.files()
    play.environment["MEANWHILE"] = f"BROKER_TOKEN={TOKEN} {' '.join(play.shell)} '{EXAMPLES / 'extend'}'"
    result = play.run("setup").succeeded()
    assert "is held until" in result.log, result
    after = play.files()
    assert set(after) == FILES and before.pop("expires_at") and after.pop("expires_at").strip(), after
    assert after == before, (before, after)


@case
def end_of_a_sandbox_that_is_replaced_meanwhile_is_not_written(world):
    play = world.play()
    play.run("setup").succeeded()
    old, ends = play.sandbox(), []

    def replace():
        play.environment["BROKER_URL"] = world.broker.url
        play.run("replace").succeeded()
        ends.append(play.files()["expires_at"])

    play.environment["BROKER_URL"] = world.proxy(granted(1999999999), watch=replace).url
    play.run("extend").succeeded()
    assert play.sandbox() != old and ends == [play.files()["expires_at"]], (old, ends, play.files())


@case
def temporary_files_of_killed_runs_are_removed(world):
    play = world.play()
    play.home.mkdir(parents=True)
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True).stdout.strip()
    for name in f".run-{gone}.body", ".run-x.new":
        (play.home / name).write_text("left")
    play.run("setup").succeeded()
    assert set(play.files()) == FILES, play.files()


@case
def link_or_file_in_the_place_of_a_new_file_does_not_count(world):
    for script, files in ("setup", 0o644), ("csp-user", 0o600):
        play = world.student() if script == "csp-user" else world.play()
        where, victim = play.directory / "lab", play.directory / "victim"
        where.mkdir()
        play.environment |= {"LEGACY_FILES": "1", "LEGACY_DIR": str(where)}
        new = f"{where}/.sandbox-broker-$$.new"
        for plant in f'ln -s "{victim}" "{new}"', f'umask 0; echo left >"{new}"':
            victim.write_text("mine")
            command = f'({plant}); exec {" ".join(play.shell)} "{EXAMPLES / script}"'
            process = started([*play.shell, "-c", command], env=play.environment, cwd=play.directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            play.finish(process).succeeded()
            assert victim.read_text() == "mine"
            found = list(where.iterdir())
            assert found and not [path for path in found if path.is_symlink() or "new" in path.name], found
            assert {path.stat().st_mode & 0o777 for path in found} == {files}, found
