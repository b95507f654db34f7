// go_manager - a manager of disks on a QMP library that was made for QEMU by others (github.com/digitalocean/go-qemu, whose
// types and calls come from QEMU's own schema)
//
//	go_manager SOCKET DIRECTORY
//
// It leads a disk through a day: nodes, an NBD server, bitmaps, a snapshot, a backup in a transaction, a mirror that is
// completed, a commit, mistakes, and the end. Prints what each step gave, without anything that differs between two servers that are
// right. DIRECTORY has base.qcow2 and top.qcow2 over it, and empty images backup.qcow2, copy.qcow2 and next.qcow2.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

const patience = 30 * time.Second

type manager struct {
	socket    *qmp.SocketMonitor
	monitor   *raw.Monitor
	events    <-chan qmp.Event
	directory string
}

func check(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func text(value string) *string { return &value }
func yes() *bool                { value := true; return &value }

func (m *manager) path(name string) string { return filepath.Join(m.directory, name) }

// What the library's types cannot say, in JSON.
func (m *manager) run(command string, arguments map[string]interface{}) error {
	bytes, err := json.Marshal(map[string]interface{}{"execute": command, "arguments": arguments})
	check("json", err)
	_, err = m.socket.Run(bytes)
	return err
}

// The flat form: a node for the file, and one for the format that names it. @backing: a node's name, or nil for none.
func (m *manager) addFlat(name string, backing interface{}) {
	check("file "+name, m.run("blockdev-add", map[string]interface{}{
		"driver": "file", "node-name": name + "-file", "filename": m.path(name + ".qcow2"), "discard": "unmap"}))
	check("node "+name, m.run("blockdev-add", map[string]interface{}{
		"driver": "qcow2", "node-name": name, "file": name + "-file", "backing": backing}))
}

// The nested form.
func (m *manager) addNested(name string) {
	check("node "+name, m.run("blockdev-add", map[string]interface{}{
		"driver": "qcow2", "node-name": name, "backing": nil,
		"file": map[string]interface{}{"driver": "file", "filename": m.path(name + ".qcow2")}}))
}

// Waits for the event of this name and returns its data; others pass.
func (m *manager) await(name string) map[string]interface{} {
	timeout := time.After(patience)
	for {
		select {
		case event, good := <-m.events:
			if !good {
				fmt.Fprintf(os.Stderr, "the connection ended before %s\n", name)
				os.Exit(1)
			}
			if event.Event == name {
				return event.Data
			}
		case <-timeout:
			fmt.Fprintf(os.Stderr, "no %s\n", name)
			os.Exit(1)
		}
	}
}

func report(name string, data map[string]interface{}) {
	fmt.Println(name, data["device"], data["type"], data["offset"] == data["len"], data["error"])
}

func (m *manager) printNodes() {
	nodes, err := m.monitor.QueryNamedBlockNodes()
	check("query-named-block-nodes", err)
	var lines []string
	for _, node := range nodes {
		backing := "-"
		if node.BackingFile != nil {
			backing = filepath.Base(*node.BackingFile)
		}
		if !strings.HasPrefix(*node.NodeName, "#") {
			lines = append(lines, fmt.Sprintln("node", *node.NodeName, node.Drv, node.Ro,
				strings.Contains(node.File, strings.TrimSuffix(*node.NodeName, "-file")+".qcow2"), backing, node.BackingFileDepth, node.Image.VirtualSize, node.DetectZeroes, node.Cache.Writeback))
		}
	}
	sort.Strings(lines)
	fmt.Print(strings.Join(lines, ""))
}

func (m *manager) printJobs() {
	jobs, err := m.monitor.QueryBlockJobs()
	check("query-block-jobs", err)
	for _, job := range jobs {
		fmt.Println("job", job.Type, job.Device, job.Len, job.Speed, job.Ready, job.IOStatus)
	}
	fmt.Println(len(jobs), "jobs")
}

func (m *manager) greet() {
	_, err := m.monitor.QueryVersion()
	check("query-version", err)
	commands, err := m.monitor.QueryCommands()
	check("query-commands", err)
	known := map[string]bool{}
	for _, command := range commands {
		known[command.Name] = true
	}
	for _, name := range []string{"blockdev-add", "blockdev-del", "blockdev-mirror", "blockdev-backup", "block-commit",
		"block-stream", "transaction", "nbd-server-start", "block-export-add", "query-jobs", "quit"} {
		fmt.Println("knows", name, known[name])
	}
}

func (m *manager) build() {
	m.addFlat("base", nil)
	m.addFlat("top", "base")
	m.addNested("backup")
	m.addNested("copy")
	m.printNodes()
	check("nbd-server-start", m.monitor.NBDServerStart(raw.SocketAddressLegacyUnix{Path: m.path("nbd.sock")}, nil))
	check("block-export-add", m.run("block-export-add", map[string]interface{}{
		"type": "nbd", "id": "export0", "node-name": "top", "name": "disk", "writable": true}))
}

// A bitmap and a backup that begin at one moment.
func (m *manager) backUp() {
	check("bitmap", m.monitor.BlockDirtyBitmapAdd("top", "old", nil, yes(), nil))
	check("transaction", m.monitor.Transaction([]raw.TransactionAction{
		raw.TransactionActionBlockDirtyBitmapAdd{Node: "top", Name: "day0", Persistent: yes()},
		raw.TransactionActionBlockDirtyBitmapClear{Node: "top", Name: "old"},
		raw.TransactionActionBlockdevBackup{JobID: text("backup0"), Device: "top", Target: "backup", Sync: raw.MirrorSyncModeFull},
	}, nil))
	report("completed", m.await("BLOCK_JOB_COMPLETED"))
	err := m.monitor.Transaction([]raw.TransactionAction{
		raw.TransactionActionBlockDirtyBitmapAdd{Node: "top", Name: "never"},
		raw.TransactionActionAbort{},
	}, nil)
	fmt.Println("abort:", strings.HasPrefix(err.Error(), "Transaction aborted using Abort action"))
	fmt.Println("never came:", m.monitor.BlockDirtyBitmapRemove("top", "never"))
	check("bitmap", m.monitor.BlockDirtyBitmapRemove("top", "old"))
}

func (m *manager) mirror() {
	speed := int64(0)
	check("blockdev-mirror", m.monitor.BlockdevMirror(text("mirror0"), "top", "copy", nil, raw.MirrorSyncModeFull, &speed,
		nil, nil, nil, nil, nil))
	report("ready", m.await("BLOCK_JOB_READY"))
	m.printJobs()
	fmt.Println("in use:", m.monitor.BlockdevDel("copy") != nil)
	check("block-job-complete", m.monitor.BlockJobComplete("mirror0"))
	report("completed", m.await("BLOCK_JOB_COMPLETED"))
	m.printJobs()
}

// The disk is on "copy" now; a new layer comes upon it and goes again. Driven by the states of the job, which stays until it
// is dismissed.
func (m *manager) layer() {
	m.addNested("next")
	check("blockdev-snapshot", m.monitor.BlockdevSnapshot("copy", "next"))
	check("block-commit", m.run("block-commit", map[string]interface{}{
		"job-id": "commit0", "device": "next", "auto-finalize": false, "auto-dismiss": false}))
	for state := ""; state != "concluded"; {
		data := m.await("JOB_STATUS_CHANGE")
		if data["id"] != "commit0" {
			continue
		}
		state, _ = data["status"].(string)
		fmt.Println("status", data["id"], state)
		switch state {
		case "ready":
			check("job-complete", m.run("job-complete", map[string]interface{}{"id": "commit0"}))
		case "pending":
			check("job-finalize", m.run("job-finalize", map[string]interface{}{"id": "commit0"}))
		}
	}
	check("job-dismiss", m.run("job-dismiss", map[string]interface{}{"id": "commit0"}))
	m.printJobs()
	m.printNodes()
}

func (m *manager) mistakes() {
	fmt.Println("twice:", m.run("blockdev-add", map[string]interface{}{"driver": "null-co", "node-name": "top"}))
	fmt.Println("unknown:", m.monitor.BlockdevDel("nobody"))
	fmt.Println("no job:", m.monitor.BlockJobCancel("nobody", nil))
	fmt.Println("no command:", m.run("x-nonsense", map[string]interface{}{}))
	fmt.Println("not a node:", m.monitor.BlockDirtyBitmapAdd("nobody", "b", nil, nil, nil))
	fmt.Println("again:", m.run("qmp_capabilities", map[string]interface{}{}))
}

func (m *manager) end() {
	check("block-export-del", m.run("block-export-del", map[string]interface{}{"id": "export0", "mode": "hard"}))
	fmt.Println("deleted", m.await("BLOCK_EXPORT_DELETED")["id"])
	check("nbd-server-stop", m.monitor.NBDServerStop())
	for _, name := range []string{"next", "copy", "top", "top-file", "base", "base-file", "backup"} {
		check("blockdev-del "+name, m.monitor.BlockdevDel(name))
	}
	m.printNodes()
	check("quit", m.monitor.Quit())
}

// The server may be about to listen.
func connect(path string) *qmp.SocketMonitor {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		socket, err := qmp.NewSocketMonitor("unix", path, patience)
		if err == nil {
			return socket
		}
		if time.Now().After(end) {
			check("connect", err)
		}
	}
}

func main() {
	socket := connect(os.Args[1])
	check("negotiate", socket.Connect())
	events, err := socket.Events(context.Background())
	check("events", err)
	m := manager{socket: socket, monitor: raw.NewMonitor(socket), directory: os.Args[2]}
	// The library hands events over one by one and stands still until they are taken.
	kept := make(chan qmp.Event, 10000)
	go func() {
		for event := range events {
			kept <- event
		}
		close(kept)
	}()
	m.events = kept
	m.greet()
	m.build()
	m.backUp()
	m.mirror()
	m.layer()
	m.mistakes()
	m.end()
}
