import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Counts the steps that held; the last line says it, and the exit code is 1 if one did not. */
final class Checks {
    interface Step {
        void run() throws Exception;
    }

    private static final int STEP_TIMEOUT_S = 30;
    private final String name;
    private final Map<String, Step> steps = new LinkedHashMap<>();

    Checks(String name) {
        this.name = name;
    }

    Checks step(String title, Step step) {
        steps.put(title, step);
        return this;
    }

    void run() {
        ExecutorService runner = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        int passed = 0;
        int failed = 0;
        for (Map.Entry<String, Step> entry : steps.entrySet()) {
            Future<?> running = runner.submit((Callable<Void>) () -> {
                entry.getValue().run();
                return null;
            });
            try {
                running.get(STEP_TIMEOUT_S, TimeUnit.SECONDS);
                System.out.println("ok " + name + ": " + entry.getKey());
                passed++;
            } catch (TimeoutException e) {
                System.out.println("FAILED " + name + ": " + entry.getKey() + ": no answer within " + STEP_TIMEOUT_S + " s");
                failed++;
            } catch (Exception e) {
                Throwable cause = e.getCause() == null ? e : e.getCause();
                System.out.println("FAILED " + name + ": " + entry.getKey() + ": " + cause);
                cause.printStackTrace();
                failed++;
            }
        }
        System.out.println(name + ": " + passed + " passed, " + failed + " failed");
        System.out.flush();
        Runtime.getRuntime().halt(failed > 0 || passed == 0 ? 1 : 0);
    }

    static void equal(Object got, Object want, String what) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    static void isTrue(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void eventually(Callable<Boolean> probe, String what) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (!probe.call()) {
            isTrue(System.nanoTime() < end, what + ": not within 10 s");
            Thread.sleep(20);
        }
    }
}
