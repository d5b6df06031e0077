package watch

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// waitAndDump is a worker that waits in a collective and writes its goroutines when asked.
func waitAndDump() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go waitInAllToAll(make(chan struct{}))
	fmt.Println("listening")
	<-asked
	if err := Goroutines(os.Getenv("WATCH_TEST_FILE")); err != nil {
		fmt.Println(err)
	}
	select {}
}

func waitInAllToAll(c chan struct{}) { <-c }

// fillMemory uses memory until it is killed, once a line has come on standard input's
// fellow descriptor 3: the test moves it into its control group before.
func fillMemory() {
	fmt.Println("ready")
	bufio.NewReader(os.NewFile(3, "go")).ReadByte()
	const page, step = 4096, 1 << 20
	var all [][]byte
	for {
		b := make([]byte, step)
		for i := 0; i < step; i += page {
			b[i] = 1
		}
		all = append(all, b)
		if len(all) > 4<<10 { // 4 GiB: the limit does not work
			return
		}
	}
}
