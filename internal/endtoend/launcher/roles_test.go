package launcher

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// roleVariable makes this test binary one of the programs below, where a shell would not
// be exact enough.
const roleVariable = "WANRUN_CONFORMANCE_ROLE"

func play(role string) int {
	switch role {
	case "timed":
		return timed()
	case "hog":
		return hog()
	default:
		fmt.Fprintf(os.Stderr, "unknown role %q\n", role)
		return 1
	}
}

// timed ends with code 10+rank at a moment that all ranks know: rank r at r times STEP_MS
// after AT, counted from the last rank. It does not listen to SIGTERM.
func timed() int {
	at, err := strconv.ParseInt(os.Getenv("AT"), 10, 64)
	if err != nil {
		return 1
	}
	order, err := strconv.Atoi(os.Getenv("STEP_MS"))
	if err != nil {
		return 1
	}
	rank, err := strconv.Atoi(os.Getenv("RANK"))
	if err != nil {
		return 1
	}
	size, err := strconv.Atoi(os.Getenv("WORLD_SIZE"))
	if err != nil {
		return 1
	}
	ignoreTerm()
	time.Sleep(time.Until(time.Unix(0, at).Add(time.Duration((size-1-rank)*order) * time.Millisecond)))
	return 10 + rank
}

// hog is killed by the kernel for want of memory, on the rank VICTIM; the others wait.
func hog() int {
	if os.Getenv("RANK") != os.Getenv("VICTIM") {
		time.Sleep(time.Minute)
		return 0
	}
	var held [][]byte
	for range 4096 {
		block := make([]byte, 4<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
		time.Sleep(5 * time.Millisecond) // the sampler sees it grow
	}
	return len(held) % 2
}
