// Goroutines in the benchmarks of the runtime: requests on standard input as "NAME COUNT", answers on standard output as
// "ok OPERATIONS NANOSECONDS FIGURE..", "unsupported" or "error TEXT". The first argument is the number of workers (GOMAXPROCS).
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	far        = 10 * time.Second
	yielders   = 1000
	idleTasks  = 1000
	timerTurns = 20
	settling   = 300 * time.Millisecond
	trimming   = 5 * time.Second
)

var workers int

func main() {
	workers, _ = strconv.Atoi(os.Args[1])
	runtime.GOMAXPROCS(workers)
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		count, _ := strconv.Atoi(words[1])
		fmt.Println(perform(words[0], count))
	}
}

func perform(name string, count int) string {
	switch name {
	case "yield":
		started := time.Now()
		for i := 0; i < count; i++ {
			runtime.Gosched()
		}
		return timed(count, started)
	case "yield-1000":
		return yieldAmongMany(count)
	case "spawn-join":
		return spawnJoin(count)
	case "spawn-million":
		return spawnAll(count)
	case "ping-pong":
		return pingPong(count)
	case "bounded-spsc":
		return throughput(1, 1, count)
	case "bounded-mpsc":
		return throughput(4, 1, count)
	case "bounded-mpmc":
		return throughput(4, 4, count)
	case "timer":
		return timers(count)
	case "timed-wait":
		return timedWait(count)
	case "sleepers-1000":
		return sleepers(1000, time.Millisecond, count)
	case "sleepers-10000":
		return sleepers(10000, 100*time.Millisecond, count)
	case "udp-echo":
		return udpEcho(count)
	case "idle-cpu":
		return idleCPU(time.Duration(count) * time.Millisecond)
	case "memory":
		return parked(count, settling, func() {}, true)
	case "memory-trimmed":
		return parked(count, trimming, func() { useStack() }, false)
	}
	return "unsupported"
}

func timers(count int) string {
	each := (count + timerTurns - 1) / timerTurns
	var turns [timerTurns]time.Duration
	for turn := range turns {
		started := time.Now()
		for i := 0; i < each; i++ {
			if !time.NewTimer(far).Stop() {
				return "error a timer of 10 s fired"
			}
		}
		turns[turn] = time.Since(started)
	}
	sort.Slice(turns[:], func(a, b int) bool { return turns[a] < turns[b] })
	return fmt.Sprintf("ok %d %d", each*timerTurns, (turns[timerTurns/2] * timerTurns).Nanoseconds())
}

func timed(operations int, started time.Time) string {
	return fmt.Sprintf("ok %d %d", operations, time.Since(started).Nanoseconds())
}

func sumBelow(count int) int { return count * (count - 1) / 2 }

func yieldAmongMany(count int) string {
	each := count / yielders
	if each < 1 {
		each = 1
	}
	var all sync.WaitGroup
	started := time.Now()
	all.Add(yielders)
	for i := 0; i < yielders; i++ {
		go func() {
			for i := 0; i < each; i++ {
				runtime.Gosched()
			}
			all.Done()
		}()
	}
	all.Wait()
	return timed(each*yielders, started)
}

func spawnJoin(count int) string {
	sum := 0
	done := make(chan int, 1)
	started := time.Now()
	for i := 0; i < count; i++ {
		go func(number int) { done <- number }(i)
		sum += <-done
	}
	answer := timed(count, started)
	if sum != sumBelow(count) {
		return "error wrong sum"
	}
	return answer
}

func spawnAll(count int) string {
	results := make([]int, count)
	var all sync.WaitGroup
	started := time.Now()
	all.Add(count)
	for i := 0; i < count; i++ {
		go func(number int) {
			results[number] = number
			all.Done()
		}(i)
	}
	all.Wait()
	sum := 0
	for _, result := range results {
		sum += result
	}
	answer := timed(count, started)
	if sum != sumBelow(count) {
		return "error wrong sum"
	}
	return answer
}

func pingPong(count int) string {
	return backAndForth(count, func(pong chan int) int { return <-pong })
}

func timedWait(count int) string {
	return backAndForth(count, func(pong chan int) int {
		timer := time.NewTimer(far)
		defer timer.Stop()
		select {
		case number := <-pong:
			return number
		case <-timer.C:
			return -1
		}
	})
}

func backAndForth(count int, receive func(chan int) int) string {
	ping, pong := make(chan int, 1), make(chan int, 1)
	go func() {
		for number := range ping {
			pong <- number + 1
		}
	}()
	number := 0
	started := time.Now()
	for i := 0; i < count; i++ {
		ping <- number
		number = receive(pong)
	}
	answer := timed(count, started)
	close(ping)
	if number != count {
		return "error wrong number"
	}
	return answer
}

func throughput(senders, receivers, count int) string {
	messages := make(chan int, 256)
	each := count / senders
	if each < 1 {
		each = 1
	}
	total := each * senders
	var sending, receiving sync.WaitGroup
	var received, sum int64
	started := time.Now()
	receiving.Add(receivers)
	for i := 0; i < receivers; i++ {
		go func() {
			number, numbers := 0, 0
			for message := range messages {
				number++
				numbers += message
			}
			atomic.AddInt64(&received, int64(number))
			atomic.AddInt64(&sum, int64(numbers))
			receiving.Done()
		}()
	}
	sending.Add(senders)
	for i := 0; i < senders; i++ {
		go func(first int) {
			for number := first; number < first+each; number++ {
				messages <- number
			}
			sending.Done()
		}(i * each)
	}
	sending.Wait()
	close(messages)
	receiving.Wait()
	answer := timed(total, started)
	if received != int64(total) || sum != int64(sumBelow(total)) {
		return "error wrong sum"
	}
	return answer
}

func sleepers(tasks int, duration time.Duration, rounds int) string {
	overshoots := make([][]time.Duration, tasks)
	var all sync.WaitGroup
	all.Add(tasks)
	for i := 0; i < tasks; i++ {
		go func(task int) {
			own := make([]time.Duration, rounds)
			for round := range own {
				started := time.Now()
				time.Sleep(duration)
				own[round] = time.Since(started) - duration
			}
			overshoots[task] = own
			all.Done()
		}(i)
	}
	all.Wait()
	var times []float64
	for _, own := range overshoots {
		for _, overshoot := range own {
			times = append(times, float64(overshoot.Nanoseconds())/1000)
		}
	}
	sort.Float64s(times)
	return fmt.Sprintf("ok 1 0 %g %g", times[len(times)/2], times[len(times)*99/100])
}

func udpEcho(count int) string {
	address := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	server, failed := net.ListenUDP("udp4", address)
	if failed != nil {
		return "error " + failed.Error()
	}
	client, failed := net.ListenUDP("udp4", address)
	if failed != nil {
		return "error " + failed.Error()
	}
	target := server.LocalAddr().(*net.UDPAddr).AddrPort()
	ended := make(chan error)
	go func() {
		buffer := make([]byte, 64)
		for {
			length, from, failed := server.ReadFromUDPAddrPort(buffer)
			if failed == nil {
				_, failed = server.WriteToUDPAddrPort(buffer[:length], from)
			}
			if failed != nil || length == 0 {
				server.Close()
				ended <- failed
				return
			}
		}
	}()
	sent, received := make([]byte, 64), make([]byte, 64)
	started := time.Now()
	for i := 0; i < count; i++ {
		sent[0], sent[1], sent[2] = byte(i), byte(i>>8), byte(i>>16)
		if _, failed := client.WriteToUDPAddrPort(sent, target); failed != nil {
			return "error " + failed.Error()
		}
		length, _, failed := client.ReadFromUDPAddrPort(received)
		if failed != nil {
			return "error " + failed.Error()
		}
		if string(received[:length]) != string(sent) {
			return "error another datagram came back"
		}
	}
	answer := timed(count, started)
	client.WriteToUDPAddrPort(nil, target)
	if failed := <-ended; failed != nil {
		return "error " + failed.Error()
	}
	client.Close()
	return answer
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func idleCPU(duration time.Duration) string {
	never := make(chan int)
	for i := 0; i < idleTasks; i++ {
		go func() { <-never }()
	}
	go time.Sleep(far)
	time.Sleep(settling)
	before, started := cpuTime(), time.Now()
	time.Sleep(duration)
	used := cpuTime() - before
	return fmt.Sprintf("ok 1 0 %g", used.Seconds()/time.Since(started).Seconds()/float64(workers)*100)
}

// Resident memory and page tables, in bytes.
func memory() int {
	status, _ := os.ReadFile("/proc/self/status")
	kibibytes := 0
	for _, line := range strings.Split(string(status), "\n") {
		words := strings.Fields(line)
		if len(words) > 1 && (words[0] == "VmRSS:" || words[0] == "VmPTE:") {
			number, _ := strconv.Atoi(words[1])
			kibibytes += number
		}
	}
	return kibibytes * 1024
}

func parked(count int, wait time.Duration, prepare func(), withMappings bool) string {
	var ready int64
	never := make(chan int)
	before := memory()
	for i := 0; i < count; i++ {
		go func() {
			prepare()
			atomic.AddInt64(&ready, 1)
			<-never
		}()
	}
	for atomic.LoadInt64(&ready) < int64(count) {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(wait)
	answer := fmt.Sprintf("ok 1 0 %g", float64(memory()-before)/float64(count))
	if withMappings {
		maps, _ := os.ReadFile("/proc/self/maps")
		answer += fmt.Sprintf(" %d", strings.Count(string(maps), "\n"))
	}
	return answer
}

//go:noinline
func useStack() byte {
	var used [32 * 1024]byte
	for i := range used {
		used[i] = byte(i)
	}
	return used[len(os.Args)]
}
