# life: does what is typed on its console, until it is told to end.
echo "guest: cpus $(grep -c ^processor /proc/cpuinfo)"
echo "guest: ready"
while read -r what text; do
	case $what in
	say) echo "guest: says $text" ;;
	off) break ;;
	reboot) reboot -f ;;
	crash) echo c >/proc/sysrq-trigger ;;
	esac
done
