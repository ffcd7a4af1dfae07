"""The files and variables of existing tracks, which were written for the scripts of the FastAPI service."""

import subprocess

from harness import FILES, allocated, case
from servers import ADMIN, TOKEN

LEGACY_FILES = {"subtenant_id.txt", "broker_sandbox_id", "external_id.txt", "sandbox_id.txt", "sandbox_name.txt",
                "sfdc_account_id.txt", "sandbox_env.sh"}


def legacy_files(directory):
    return {path.name: path.read_text() for path in directory.iterdir() if path.name in LEGACY_FILES or "new" in path.name}


def exported(play, file):
    """The variables that a file exports."""
    script = f'. "{file}"; for name in STUDENT_TENANT CSP_ACCOUNT_ID BROKER_SANDBOX_ID SFDC_ACCOUNT_ID; do printenv "$name"; done'
    shown = subprocess.run([*play.shell, "-euc", script], capture_output=True, text=True, check=True, cwd=play.directory)
    return shown.stdout.split("\n")[:-1]


def own_directory(play, name):
    directory = play.directory / name
    directory.mkdir()
    return directory


@case
def files_of_existing_tracks_are_written_where_the_setup_runs(world):
    play = world.play(LEGACY_FILES="1")
    where = own_directory(play, "scripts of the lab")
    result = play.run("setup", cwd=where).succeeded()
    assert f"to {where}" in result.log, result
    (sandbox,) = world.broker.sandboxes_of(play.id).values()
    account, sandbox_id = sandbox["external_id"].split("/")[-1], sandbox["sandbox_id"]
    found = legacy_files(where)
    env = found.pop("sandbox_env.sh")
    assert env.count("export ") == 4
    # Without a line break at the end: some tracks read them in Python without strip.
    assert found == {
        "subtenant_id.txt": sandbox_id, "broker_sandbox_id": sandbox_id, "external_id.txt": account, "sandbox_id.txt": account,
        "sandbox_name.txt": sandbox["name"], "sfdc_account_id.txt": sandbox["sfdc_account_id"]}, found
    assert exported(play, where / "sandbox_env.sh") == [sandbox["name"], account, sandbox_id, sandbox["sfdc_account_id"]]
    assert {path.stat().st_mode & 0o777 for path in where.iterdir()} == {0o644}
    assert set(play.files()) == FILES


@case
def files_of_existing_tracks_follow_a_replacement_and_are_removed_by_the_cleanup(world):
    play = world.play(LEGACY_FILES="1")
    where, elsewhere = own_directory(play, "scripts"), own_directory(play, "elsewhere")
    play.run("setup", cwd=where).succeeded()
    before = legacy_files(where)
    # Scripts of challenges run in other directories. With and without the variable, the setup's directory counts.
    play.run("replace", cwd=elsewhere).succeeded()
    after = legacy_files(where)
    assert set(after) == LEGACY_FILES and after["subtenant_id.txt"] == play.sandbox(), after
    assert not set(before.values()) & set(after.values()), (before, after)
    del play.environment["LEGACY_FILES"]
    play.run("replace", cwd=elsewhere).succeeded()
    assert legacy_files(where)["broker_sandbox_id"] == play.sandbox()
    (where / "of the lab.txt").write_text("kept")
    play.run("cleanup", cwd=elsewhere).succeeded()
    assert [path.name for path in where.iterdir()] == ["of the lab.txt"] and not list(elsewhere.iterdir())
    assert not play.home.exists()


@case
def files_of_existing_tracks_are_written_on_request_only(world):
    for variables in {}, {"LEGACY_FILES": ""}, {"LEGACY_FILES": "0"}:
        play = world.play(**variables)
        where = own_directory(play, "scripts")
        play.run("setup", cwd=where).succeeded()
        play.run("cleanup", cwd=where).succeeded()
        assert not list(where.iterdir())


@case
def directory_of_the_files_of_existing_tracks_can_be_set(world):
    play = world.play(LEGACY_FILES="1")
    play.environment["LEGACY_DIR"] = str(play.directory / "new" / "folder")
    where = own_directory(play, "scripts")
    play.run("setup", cwd=where).succeeded()
    assert set(legacy_files(play.directory / "new" / "folder")) == LEGACY_FILES and not list(where.iterdir())
    play.run("cleanup").succeeded()
    for name, value, text in [("LEGACY_DIR", "scripts", "must be an absolute path"), ("LEGACY_DIR", "/dev/null/x", "LEGACY_DIR"),
                              ("LEGACY_FILES", "yes", "must be 1, or 0 or empty")]:
        play = world.play(LEGACY_FILES="1")
        play.environment[name] = value
        play.run("setup").failed(text)


@case
def sandbox_env_sh_quotes_its_values(world):
    name = """it's "$(touch owned)" `touch owned` $HOME ; touch owned \\"""
    play = world.play(world.proxy(allocated("7", name=name)).url, LEGACY_FILES="1")
    play.run("setup").succeeded()
    assert exported(play, play.directory / "sandbox_env.sh") == [name, "a-7", "7", ""]
    assert not (play.directory / "owned").exists()
    assert (play.directory / "sandbox_name.txt").read_text() == name


@case
def variables_of_existing_tracks_set_address_and_token(world):
    proxy = world.proxy()
    play = world.play(BROKER_API_URL=proxy.url, BROKER_API_TOKEN=TOKEN)
    del play.environment["BROKER_URL"], play.environment["BROKER_TOKEN"]
    for script in "setup", "extend", "replace", "cleanup":
        play.run(script).succeeded()
    assert {request[3]["Authorization"] for request in proxy.seen} == {f"Bearer {TOKEN}"}
    # The names of the kit win.
    other = world.proxy()
    play.environment |= {"BROKER_URL": other.url, "BROKER_TOKEN": TOKEN, "BROKER_API_TOKEN": ADMIN}
    count = len(proxy.seen)
    play.run("setup").succeeded()
    assert len(other.seen) == 1 and len(proxy.seen) == count


@case
def messages_name_the_variables_of_existing_tracks_that_are_set(world):
    proxy = world.proxy()
    for variables, texts in [
        ({"BROKER_API_TOKEN": "wrong-token-1234"}, ["HTTP 401", "Is BROKER_API_TOKEN a track token"]),
        ({"BROKER_API_TOKEN": "two words"}, ["BROKER_API_TOKEN contains"]),
        ({"BROKER_API_URL": "broker.example.com"}, ["BROKER_API_URL is", "https://"]),
        ({"BROKER_API_URL": proxy.url.replace("/v1", "/v2")}, ["HTTP 404", "Is BROKER_API_URL right?"]),
        ({"BROKER_API_URL": ""}, ["BROKER_URL is empty"]),
        ({"BROKER_API_TOKEN": ""}, ["BROKER_TOKEN is empty"]),
    ]:
        play = world.play(**{"BROKER_API_URL": proxy.url, "BROKER_API_TOKEN": TOKEN, **variables})
        del play.environment["BROKER_URL"], play.environment["BROKER_TOKEN"]
        result = play.run("setup").failed(*texts)
        assert "wrong-token" not in result.out + result.log, result
