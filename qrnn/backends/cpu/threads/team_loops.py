"""The compiled code of thread teams: how workers hand each other calls, and how they meet at the barrier.

See `qrnn.backends.cpu.threads.team`.
"""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.memory import call_at
from qrnn.backends.cpu.python_calls import ASKED, FIRST, LAST, STATUS
from qrnn.backends.cpu.threads.atomics import (
    exchange_if,
    load_acquire,
    nanoseconds,
    pause,
    put_word,
    read_byte,
    store_release,
    word_at,
    yield_processor,
)
from qrnn.backends.cpu.threads.team import (
    ARGUMENTS,
    ASLEEP,
    BARRIER_SPINS,
    BEGIN,
    CLOSE,
    CLOSE_NS,
    CLOSE_STEPS,
    ENTRY,
    EXPECTED,
    EXPECTED_SPINS,
    FREE,
    GIVEN,
    HELD,
    HELPERS,
    IDLE_SPINS,
    LAST_END,
    LATE_YIELDS,
    LISTS,
    LISTS_BY_HELPERS,
    LOCK,
    OFFERED,
    READY,
    REST,
    RESTING,
    STATE,
    STRIDE,
    TAKEN,
    TEAM_WORKERS,
    YIELD_SPINS,
)


@jit
def watch(mailboxes: Any, me: int, pipe: int, byte: Any) -> None:
    """Make the calls that helper thread ``me`` is given; sleep where none has come for a while, until a byte comes through ``pipe``."""
    while True:
        read_byte(pipe, byte)
        _until_asleep(mailboxes, me)


@jit
def _until_asleep(mailboxes: Any, me: int) -> None:
    """Make the calls that come, until none has come for a while."""
    own, waited, since_yield = me * STRIDE, 0, 0
    while True:
        state = load_acquire(mailboxes, own + STATE)
        if state == ASLEEP:  # This is so at first, and where an offer was taken back.
            exchange_if(mailboxes, own + STATE, ASLEEP, mailboxes[own + BEGIN])
            continue
        if state == GIVEN or (state == OFFERED and exchange_if(mailboxes, own + STATE, OFFERED, GIVEN)):
            call_at(mailboxes[own + ENTRY], mailboxes[own + ARGUMENTS])
            store_release(mailboxes, own + STATE, READY)
            waited = 0
            continue
        pause()
        waited += 1
        since_yield += 1
        if state == HELD and since_yield >= mailboxes[own + YIELD_SPINS]:
            yield_processor()
            since_yield = 0
        budget = mailboxes[own + (IDLE_SPINS if state == READY else EXPECTED_SPINS)]
        if waited > budget and state <= EXPECTED and exchange_if(mailboxes, own + STATE, state, ASLEEP):
            return


@jit
def expect(place: Any, mailboxes: Any, me: int, state: int, spins: Any) -> None:
    """Let helper thread ``me`` spin in ``state``; place[STATUS] = 1 where it sleeps and has to be woken. ``spins`` is a `team.Spins`."""
    own = me * STRIDE
    mailboxes[own + IDLE_SPINS] = spins[0]
    mailboxes[own + EXPECTED_SPINS] = spins[1]
    mailboxes[own + YIELD_SPINS] = spins[2]
    mailboxes[own + BEGIN] = state
    if not exchange_if(mailboxes, own + STATE, READY, state) and load_acquire(mailboxes, own + STATE) == ASLEEP:
        place[STATUS] = 1


@jit
def _hold(mailboxes: Any, k: int, wake_spins: int, yield_spins: int) -> bool:
    """Take helper thread ``k`` into this thread's team. Return False where it did not come in ``wake_spins`` pauses."""
    own, since_yield = k * STRIDE + STATE, 0
    for _ in range(wake_spins + 1):
        state = load_acquire(mailboxes, own)
        if READY <= state <= EXPECTED and exchange_if(mailboxes, own, state, HELD):
            return True
        pause()
        since_yield += 1
        if since_yield >= yield_spins:
            yield_processor()
            since_yield = 0
    return False


@jit
def share(mailboxes: Any, workers: Any, alone: Any, flags: Any, wake_spins: int, yield_spins: int) -> None:
    """Make the calls of ``workers`` [workers, 2] at once, the first by this thread; or the call ``alone`` [1, 2] where no team comes together.

    A call is the address of a function and that of its arguments. ``flags`` are those of the workers' barrier, whose epochs are set to zero.
    """
    mine = exchange_if(mailboxes, LOCK, FREE, TAKEN)
    held = 0
    if mine:
        for k in range(0, flags.shape[0], STRIDE):
            flags[k] = 0
        while held < workers.shape[0] - 1 and _hold(mailboxes, held + 1, wake_spins, yield_spins):
            held += 1
    if mine and held == workers.shape[0] - 1:
        for k in range(1, workers.shape[0]):
            mailboxes[k * STRIDE + ENTRY] = workers[k, 0]
            mailboxes[k * STRIDE + ARGUMENTS] = workers[k, 1]
            store_release(mailboxes, k * STRIDE + STATE, GIVEN)
        call_at(workers[0, 0], workers[0, 1])
        for k in range(1, workers.shape[0]):
            since_yield = 0
            while load_acquire(mailboxes, k * STRIDE + STATE) == GIVEN:
                since_yield += 1
                if since_yield >= yield_spins:
                    yield_processor()
                    since_yield = 0
        mailboxes[TEAM_WORKERS] += workers.shape[0]
    else:
        for k in range(1, held + 1):
            store_release(mailboxes, k * STRIDE + STATE, READY)
        call_at(alone[0, 0], alone[0, 1])
    if mine:
        store_release(mailboxes, LOCK, FREE)


@jit
def _awake(mailboxes: Any, k: int) -> int:
    """Return the state of helper thread ``k`` where it is awake and without work, else `ASLEEP`."""
    state = load_acquire(mailboxes, k * STRIDE + STATE)
    return state if READY <= state <= EXPECTED else ASLEEP


@jit
def _make_part(mailboxes: Any, workers: Any, offered: Any, yield_spins: int) -> int:
    """Make the calls of ``workers`` [workers, 2] at once: those of helper threads that do not take theirs before this one is done, by it.

    Return 2 where a helper thread was waited for as long as one that others keep from a core, 1 where one did not take its call, else 0.
    """
    late = 0
    for k in range(1, workers.shape[0]):
        own, state = k * STRIDE, _awake(mailboxes, k)
        mailboxes[own + ENTRY] = workers[k, 0]
        mailboxes[own + ARGUMENTS] = workers[k, 1]
        offered[k] = 1 if state != ASLEEP and exchange_if(mailboxes, own + STATE, state, OFFERED) else 0
    call_at(workers[0, 0], workers[0, 1])
    for k in range(1, workers.shape[0]):
        own = k * STRIDE
        if offered[k] == 0 or exchange_if(mailboxes, own + STATE, OFFERED, READY):
            call_at(workers[k, 0], workers[k, 1])
            late = max(late, 1)
            continue
        since_yield, yields = 0, 0
        while load_acquire(mailboxes, own + STATE) == GIVEN:
            since_yield += 1
            if since_yield >= yield_spins:
                yield_processor()
                since_yield = 0
                yields += 1
        if yields > LATE_YIELDS:
            late = 2
    return late


@jit
def _together(mailboxes: Any, before: Any, parts: Any, offered: Any, pace: Any, yield_spins: int) -> bool:
    """Make the call ``before`` [1, 2], then the ``parts`` of a step [parts, workers, 2]; nothing where a helper thread sleeps.

    Return whether the calls were made. Where a helper thread was waited for, pace[REST] of the next steps are made alone, and a 16th of them
    where one did not come, which costs less.
    """
    for k in range(1, parts.shape[1]):
        if _awake(mailboxes, k) == ASLEEP:
            return False
    call_at(before[0, 0], before[0, 1])
    for part in range(parts.shape[0]):
        late = _make_part(mailboxes, parts[part], offered, yield_spins)
        if late > 0:
            pace[RESTING] = max(pace[RESTING], pace[REST] if late > 1 else pace[REST] // 16)
    mailboxes[TEAM_WORKERS] += parts.shape[1]
    return True


@jit
def share_step(
    place: Any, control: Any, mailboxes: Any, before: Any, parts: Any, alone: Any, offered: Any, pace: Any, most: int, yield_spins: int,
) -> None:  # fmt: skip
    """Make a step of place[FIRST] … place[LAST] - 1 together with helper threads, if it has at most ``most`` and they are awake.

    Else the call ``alone`` is made.

    control[ASKED] is set where they sleep, and each of the last pace[CLOSE_STEPS] steps began within pace[CLOSE_NS] of the end of the one
    before. Where a helper thread was late, since others use the cores, some of the next steps are made alone: pace[RESTING] counts them down.
    """
    few, asleep = 0 < place[LAST] - place[FIRST] <= most, False
    if pace[RESTING] > 0:
        pace[RESTING] -= 1
    elif few and exchange_if(mailboxes, LOCK, FREE, TAKEN):
        asleep = not _together(mailboxes, before, parts, offered, pace, yield_spins)
        store_release(mailboxes, LOCK, FREE)
        if not asleep:
            return
    begin = nanoseconds() if asleep else 0
    call_at(alone[0, 0], alone[0, 1])
    if asleep:
        pace[CLOSE] = pace[CLOSE] + 1 if begin - pace[LAST_END] < pace[CLOSE_NS] else 0
        pace[LAST_END] = nanoseconds()
        if pace[CLOSE] >= pace[CLOSE_STEPS]:
            pace[CLOSE] = 0
            control[ASKED] = 1


@jit
def arrive(flags: Any, me: int, workers: int, epoch: int) -> None:
    """Say that worker ``me`` has reached ``epoch``; what it wrote before is there for those who `wait`."""
    if workers > 1:
        store_release(flags, me * STRIDE, epoch)


@jit
def wait(flags: Any, workers: int, epoch: int) -> None:
    """Return when every worker of the team has reached ``epoch``; a team of one returns at once."""
    if workers == 1:
        return
    for other in range(workers):
        spins = 0
        while load_acquire(flags, other * STRIDE) < epoch:
            spins += 1
            if spins > flags[BARRIER_SPINS]:
                yield_processor()


@jit
def wait_for_all(flags: Any, me: int, workers: int, epoch: int) -> None:
    """Arrive at the barrier, then wait for the others."""
    arrive(flags, me, workers, epoch)
    wait(flags, workers, epoch)


@jit
def _make_lists(lists: Any, taken: Any) -> int:
    """Make the lists of calls that no other thread has taken, and return how many these were; taken[0] counts those that are."""
    made = 0
    while True:
        k = load_acquire(taken, 0)
        if k >= taken[LISTS]:
            return made
        if not exchange_if(taken, 0, k, k + 1):
            continue
        control, calls = lists[k, 0], lists[k, 1]
        put_word(control, FIRST, lists[k, 3])
        put_word(control, LAST, lists[k, 4])
        put_word(control, STATUS, 0)
        for call in range(lists[k, 2]):
            call_at(word_at(calls, 2 * call), word_at(calls, 2 * call + 1))
            if word_at(control, STATUS) != 0:
                break
        made += 1


@jit
def help_with_lists(lists: Any, taken: Any) -> None:
    """Make lists of calls as a helper thread; see `make_lists`."""
    _make_lists(lists, taken)


@jit
def make_lists(place: Any, mailboxes: Any, helping: Any, lists: Any, taken: Any, yield_spins: int) -> None:
    """Make taken[LISTS] lists of calls that have nothing in common, by this thread and by taken[HELPERS] helper threads if they come in time.

    ``lists`` [lists, 5] has, for each, the addresses of its control and of its calls, their number, and the control's `FIRST` and `LAST`; see
    `qrnn.backends.cpu.calls.CallList`. ``helping`` [1, 2] is the call of `help_with_lists`. A helper thread that sleeps is offered it as
    well, and the offer is taken back where all lists are made before it wakes up. This thread makes all lists where another team is at work.
    place[STATUS] is set where a list's own is set at the end.
    """
    helpers = taken[HELPERS]
    mine = exchange_if(mailboxes, LOCK, FREE, TAKEN)
    store_release(taken, 0, 0)
    if mine:
        for k in range(1, helpers + 1):
            own = k * STRIDE
            mailboxes[own + ENTRY] = helping[0, 0]
            mailboxes[own + ARGUMENTS] = helping[0, 1]
            while not exchange_if(mailboxes, own + STATE, load_acquire(mailboxes, own + STATE), OFFERED):
                pause()
    made = _make_lists(lists, taken)
    if mine:
        for k in range(1, helpers + 1):
            if exchange_if(mailboxes, k * STRIDE + STATE, OFFERED, ASLEEP):
                continue
            since_yield = 0
            while load_acquire(mailboxes, k * STRIDE + STATE) == GIVEN:
                pause()
                since_yield += 1
                if since_yield >= yield_spins:
                    yield_processor()
                    since_yield = 0
        mailboxes[LISTS_BY_HELPERS] += taken[LISTS] - made
        store_release(mailboxes, LOCK, FREE)
    for k in range(taken[LISTS]):
        if word_at(lists[k, 0], STATUS) != 0:
            place[STATUS] = 1
