// Replays golden pictures through a Core ML package and compares the scores with what is expected of them.
//
// NOT COMPILED where it was written: there is no Swift compiler and no Core ML on Linux. Read it before you trust it.
//
// On a Mac, as a program:
//
//     swiftc -D GOLDEN_PROGRAM -parse-as-library GoldenReplay.swift -o golden-replay
//     ./golden-replay MODEL.mlpackage FOLDER
//
// On a phone, as an XCTest: add this file to a test target, and as folder references (blue folders) the package,
// named Model.mlpackage, and this folder, named Golden. Xcode must not compile the package: set its "Build Rule"
// to none, or add it as Model.mlmodelc, compiled by `xcrun coremlcompiler compile MODEL.mlpackage .`.
//
// Every compute unit is asked: the processor alone, with the GPU, with the Neural Engine (iOS 16, macOS 13), and all.

import CoreML
import Foundation

struct Expectation: Decodable {
    struct Picture: Decodable {
        let file: String
        let top1: String
        let top1_decided: Bool
        let scores: [Double]
    }

    let package: String
    let input: String
    let scores: String
    let output_kind: String
    let labels: [String]
    let tolerance: Double
    let pictures: [Picture]
}

struct Outcome {
    let unit: String
    let file: String
    let largestError: Double
    let tolerance: Double
    let top1: String
    let expectedTop1: String
    let top1Decided: Bool

    var passed: Bool {
        largestError <= tolerance && (!top1Decided || top1 == expectedTop1)
    }

    var line: String {
        let verdict = passed ? "ok    " : "FAILED"
        return "\(verdict) \(unit) \(file): largest error \(largestError), tolerance \(tolerance); "
            + "top-1 \(top1), expected \(expectedTop1)\(top1Decided ? "" : " (undecided)")"
    }
}

enum ReplayError: Error {
    case noScores(String)
    case wrongCount(found: Int, expected: Int)
}

enum GoldenReplay {
    static func units() -> [(String, MLComputeUnits)] {
        var units: [(String, MLComputeUnits)] = [("cpu", .cpuOnly), ("cpu+gpu", .cpuAndGPU), ("all", .all)]
        if #available(iOS 16.0, macOS 13.0, *) {
            units.append(("cpu+neural-engine", .cpuAndNeuralEngine))
        }
        return units
    }

    /// The package as Core ML runs it. A folder that ends in .mlmodelc is compiled already.
    static func compiled(_ package: URL) throws -> URL {
        package.pathExtension == "mlmodelc" ? package : try MLModel.compileModel(at: package)
    }

    static func run(package: URL, folder: URL) throws -> [Outcome] {
        let content = try Data(contentsOf: folder.appendingPathComponent("expected.json"))
        let expectation = try JSONDecoder().decode(Expectation.self, from: content)
        let program = try compiled(package)
        var outcomes: [Outcome] = []
        for (name, unit) in units() {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = unit
            let model = try MLModel(contentsOf: program, configuration: configuration)
            for picture in expectation.pictures {
                outcomes.append(try replay(picture, of: expectation, folder: folder, model: model, unit: name))
            }
        }
        return outcomes
    }

    private static func replay(
        _ picture: Expectation.Picture, of expectation: Expectation, folder: URL, model: MLModel, unit: String
    ) throws -> Outcome {
        let description = model.modelDescription.inputDescriptionsByName[expectation.input]
        guard let constraint = description?.imageConstraint else { throw ReplayError.noScores(expectation.input) }
        // The pictures have the model's size, so that nothing is resized or cut.
        let image = try MLFeatureValue(
            imageAt: folder.appendingPathComponent(picture.file), constraint: constraint, options: nil)
        let input = try MLDictionaryFeatureProvider(dictionary: [expectation.input: image])
        let answer = try model.prediction(from: input)
        let found = try scores(of: answer, expectation: expectation)
        guard found.count == picture.scores.count else {
            throw ReplayError.wrongCount(found: found.count, expected: picture.scores.count)
        }
        let errors = zip(found, picture.scores).map { ($0 - $1).magnitude }
        // NaN compares as neither smaller nor larger: it counts as infinitely wrong.
        let largest = errors.contains { $0.isNaN } ? Double.infinity : (errors.max() ?? .infinity)
        let best = found.indices.max { found[$0] < found[$1] } ?? 0
        return Outcome(
            unit: unit, file: picture.file, largestError: largest, tolerance: expectation.tolerance,
            top1: expectation.labels[best], expectedTop1: picture.top1, top1Decided: picture.top1_decided)
    }

    /// Scores in the order of the labels: a classifier gives a dictionary, everything else an array.
    private static func scores(of answer: MLFeatureProvider, expectation: Expectation) throws -> [Double] {
        guard let value = answer.featureValue(for: expectation.scores) else {
            throw ReplayError.noScores(expectation.scores)
        }
        if value.type == .dictionary {
            return try expectation.labels.map { label in
                guard let score = value.dictionaryValue[label] else { throw ReplayError.noScores(label) }
                return score.doubleValue
            }
        }
        guard let array = value.multiArrayValue else { throw ReplayError.noScores(expectation.scores) }
        return (0..<array.count).map { array[$0].doubleValue }
    }
}

#if GOLDEN_PROGRAM

@main
struct Program {
    static func main() {
        guard CommandLine.arguments.count == 3 else {
            print("usage: golden-replay MODEL.mlpackage FOLDER")
            exit(2)
        }
        do {
            let outcomes = try GoldenReplay.run(
                package: URL(fileURLWithPath: CommandLine.arguments[1]),
                folder: URL(fileURLWithPath: CommandLine.arguments[2], isDirectory: true))
            outcomes.forEach { print($0.line) }
            exit(outcomes.allSatisfy { $0.passed } ? 0 : 1)
        } catch {
            print("golden-replay: \(error)")
            exit(1)
        }
    }
}

#else

import XCTest

final class GoldenReplayTests: XCTestCase {
    func testPackageAnswersAsExpected() throws {
        let bundle = Bundle(for: Self.self)
        let compiled = bundle.url(forResource: "Model", withExtension: "mlmodelc")
        let package = compiled ?? bundle.url(forResource: "Model", withExtension: "mlpackage")
        let folder = try XCTUnwrap(bundle.url(forResource: "Golden", withExtension: nil))
        for outcome in try GoldenReplay.run(package: XCTUnwrap(package), folder: folder) {
            XCTAssertTrue(outcome.passed, outcome.line)
        }
    }
}

#endif
